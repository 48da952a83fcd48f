// What this browser remembers: taste, language and theme. Nothing here is needed to keep a grade safe.

const read = (name, fallback) => {
  try {
    return localStorage.getItem(`konomi.${name}`) ?? fallback;
  } catch {
    return fallback;
  }
};

const write = (name, value) => {
  try {
    localStorage.setItem(`konomi.${name}`, value);
  } catch { /* private mode: it lasts as long as the page */ }
};

const values = {
  taste: read("taste", "default"),
  language: read("language", navigator.language?.toLowerCase().split("-")[0] ?? "en").replace(/^both$/, "ja+en"),
  theme: read("theme", "system"),
  carry: read("carry", ""),
  cell: read("cell", "2"),
  guide: read("guide", ""),
  eye: read("eye", ""),
};

export const get = (name) => values[name];

export function set(name, value) {
  values[name] = value;
  write(name, value);
}

export const taste = () => `tastes/${values.taste}`;

export function applyTheme() {
  document.documentElement.dataset.theme = values.theme;
}
