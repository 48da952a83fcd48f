// The same keys in every view: 1–5 grade, 0 clear, arrows move or choose, space goes on, z undoes, Enter opens.

let view = null;

export function listen(handler) {
  view = handler;
}

const NAMES = { " ": "space", ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", Enter: "enter", Escape: "escape" };

// Digits are taken from the key's place where a layout or an input method gives another character, letters where it gives
// none of the Latin ones: "я", "ζ" or "つ" on the key of Z is z, and Z is where the layout has it.
export function nameOf(event) {
  const digit = /^(?:Digit|Numpad)([0-5])$/.exec(event.code)?.[1];
  if (digit && !event.shiftKey) return digit;
  if (/^[0-5]$/.test(event.key)) return event.key;
  const letter = /^Key([A-Z])$/.exec(event.code)?.[1];
  if (letter && !/^[!-~]$/.test(event.key)) return letter.toLowerCase();
  return NAMES[event.key] ?? (event.key.length === 1 ? event.key.toLowerCase() : event.key);
}

function isTyping(target) {
  return target.isContentEditable || /^(?:INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const name = nameOf(event);
  if (isTyping(event.target) || !view) return;
  if (document.querySelector("dialog[open]") && !view.inDialog) return;
  const onButton = /^(?:BUTTON|A|SUMMARY)$/.test(event.target.tagName);
  if (onButton && (name === "enter" || (name === "space" && !event.target.closest(".quiet-keys")))) return;
  if (event.repeat && !["left", "right", "up", "down"].includes(name)) {
    event.preventDefault();
    return;
  }
  if (view.key(name, event)) event.preventDefault();
});

// A space that the view took must not also press the button it was typed on.
addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.closest?.(".quiet-keys") && event.target.tagName === "BUTTON") event.preventDefault();
});
