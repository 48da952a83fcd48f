// The library's filters and order in the address: a link, a reload and the way back show the same images.

const FIELDS = ["unit", "source", "prompt", "path", "score", "novelty"];
const START = "#library/by/";

// What the address asks for; fields it does not name are absent, what this page never wrote is passed over.
export function filtersAsked(orders) {
  if (!location.hash.startsWith(START)) return { filter: {} };
  const words = new URLSearchParams(location.hash.slice(START.length));
  const filter = {};
  const grades = (words.get("grades") ?? "").split(",").filter((one) => /^[0-5]$/.test(one)).map(Number);
  if (grades.length) filter.grades = new Set(grades);
  for (const name of FIELDS) if (words.get(name)) filter[name] = words.get(name);
  if (words.get("favourites") === "1") filter.favourites = true;
  const order = words.get("order");
  return { filter, order: orders.includes(order) ? order : undefined };
}

// Puts the filters into the address, without another step for the way back.
export function keepFilters(filter, order, usual) {
  const words = new URLSearchParams();
  if (filter.grades.size) words.set("grades", [...filter.grades].sort().join(","));
  for (const name of FIELDS) if (filter[name]) words.set(name, filter[name]);
  if (filter.favourites) words.set("favourites", "1");
  if (order !== usual) words.set("order", order);
  history.replaceState(null, "", [...words].length ? START + words : "#library");
}
