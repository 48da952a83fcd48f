// Builds elements; text is always text, so that no prompt or name can ever become markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let toastTimer = 0;

export function toast(words, tone = "") {
  const place = document.getElementById("toast");
  place.textContent = words;
  place.className = words ? `shown ${tone}` : "";
  clearTimeout(toastTimer);
  if (words) toastTimer = setTimeout(() => { place.className = ""; }, tone === "bad" ? 8000 : 2200);
}
