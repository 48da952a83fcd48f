// Renders N illustrated portraits with exact attributes: OUT.rgb (N x 64 x 64 x 3 bytes) and OUT.json (one record each).
// usage: node render.mjs COUNT SIZE OUT SEED
// Artists and licences: NOTICE. Skin tone varies, is never recorded and never enters a utility.
import * as collection from "@dicebear/collection";
import { createAvatar } from "@dicebear/core";
import { Resvg } from "@resvg/resvg-js";
import fs from "node:fs";

const [count, size, out, seed] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4], Number(process.argv[5])];

// mulberry32, so that a seed names a data set for ever
let state = (seed * 2654435761) >>> 0;
const random = () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const pick = (list) => list[Math.floor(random() * list.length)];

// Palettes are overridden so that a colour word means one colour in every style.
const HAIR = { black: "1a1a1a", brown: "6b3e1f", blonde: "f0d060", red: "c8381e", pink: "f06cb0", blue: "3a7be0", green: "3aa655", purple: "8a4fd0", silver: "e0e0ea" };
const BACKGROUND = { white: "ffffff", blue: "7ec8f2", pink: "f7b6d2", green: "a8e0a0", yellow: "fbe38a", purple: "c9b2ee", orange: "f5a25a", dark: "4a4e69" };
const SHIRT = { black: "22242a", white: "f4f4f4", red: "d13b3b", blue: "2f5fc4", green: "2f9e5a", yellow: "f2c230" };
const SKIN = ["f9d9bd", "f2c29b", "c98a5b", "8a5530"];
const STYLE = { adventurer: "comic", lorelei: "ink", micah: "flat", toonHead: "toon" };
const hair = JSON.parse(fs.readFileSync(new URL("hair.json", import.meta.url)));
const variants = (numbers) => numbers.map((n) => "variant" + String(n).padStart(2, "0"));
const starting = (style, words) => collection[style].schema.properties.mouth.items.enum.filter((v) => words.some((w) => v.startsWith(w)));
const MOUTH = {
  adventurer: variants([5, 22, 23, 25, 27, 28, 30, 3, 7, 13, 14]),
  lorelei: starting("lorelei", ["happy", "sad"]),
  micah: ["smile", "laughing", "sad", "frown"],
  toonHead: ["laugh", "smile", "sad", "angry"],
};
// Frames are about one pixel wide at 64 px; a generator learns them only when they are drawn bold.
const FRAME_STROKE = { adventurer: 12, lorelei: 15, micah: 10 };

function attributes() {
  const style = pick(Object.keys(STYLE));
  const beard = style !== "adventurer" && random() < 0.5;
  const roll = random();
  let glasses = roll < 1 / 3 ? "none" : roll < 2 / 3 ? "glasses" : "sunglasses";
  if (style === "micah") glasses = roll < 0.5 ? "none" : "glasses";
  if (style === "toonHead") glasses = "none";
  const shirt = style === "micah" || style === "toonHead" ? pick(Object.keys(SHIRT)) : null;
  return { style, hair_length: pick(["long", "short"]), hair_colour: pick(Object.keys(HAIR)), background: pick(Object.keys(BACKGROUND)), glasses, beard, shirt };
}

function options(a, index) {
  const { style } = a;
  const worn = a.glasses === "none" ? 0 : 100;
  const common = {
    seed: `konomi_${seed}_${index}`, hairColor: [HAIR[a.hair_colour]], backgroundColor: [BACKGROUND[a.background]],
    skinColor: [pick(style === "lorelei" ? ["ffffff", ...SKIN] : SKIN)], mouth: [pick(MOUTH[style])],
    earringsProbability: 0, hairAccessoriesProbability: 0, featuresProbability: 0, frecklesProbability: 0,
  };
  if (style !== "toonHead") common.hair = [pick(hair[style][a.hair_length])];
  if (style === "adventurer") return { ...common, glassesProbability: worn, glasses: [a.glasses === "sunglasses" ? "variant01" : pick(variants([2, 4, 5]))] };
  if (style === "lorelei") return { ...common, glassesProbability: worn, glasses: [a.glasses === "sunglasses" ? "variant02" : pick(variants([1, 3, 4, 5]))], beardProbability: a.beard ? 100 : 0 };
  if (style === "micah") return { ...common, baseColor: common.skinColor, hairProbability: 100, glassesProbability: worn, glassesColor: ["000000"], facialHairProbability: a.beard ? 100 : 0, facialHair: ["beard"], facialHairColor: [HAIR[a.hair_colour]], shirtColor: [SHIRT[a.shirt]] };
  return { ...common, hair: [pick(["sideComed", "undercut", "spiky", "bun"])], rearHairProbability: a.hair_length === "long" ? 100 : 0, rearHair: [pick(["longStraight", "longWavy", "shoulderHigh"])], beardProbability: a.beard ? 100 : 0, beard: [pick(["fullBeard", "longBeard"])], clothesColor: [SHIRT[a.shirt]] };
}

// The markup of the glasses is what differs from the same portrait without them.
function boldFrames(style, svg, bare) {
  const extra = svg.length - bare.length;
  let same = 0;
  while (svg[same] === bare[same]) same += 1;
  const start = svg.lastIndexOf("<", same);
  const markup = svg.slice(start, start + extra);
  const width = FRAME_STROKE[style];
  const bold = style === "micah" ? markup.replaceAll('stroke-width="4"', `stroke-width="${width}"`) : markup.replaceAll("<path ", `<path stroke="#000000" stroke-width="${width}" `);
  return svg.slice(0, start) + bold + svg.slice(start + extra);
}

const file = fs.openSync(out + ".rgb", "w");
const records = [];
for (let i = 0; i < count; i += 1) {
  const a = attributes();
  const o = options(a, i);
  let svg = createAvatar(collection[a.style], o).toString();
  if (a.glasses === "glasses") svg = boldFrames(a.style, svg, createAvatar(collection[a.style], { ...o, glassesProbability: 0 }).toString());
  const rgba = new Resvg(svg, { fitTo: { mode: "width", value: size }, font: { loadSystemFonts: false } }).render().pixels;
  const rgb = Buffer.alloc(size * size * 3);
  for (let p = 0; p < size * size; p += 1) rgba.copy(rgb, 3 * p, 4 * p, 4 * p + 3);
  fs.writeSync(file, rgb);
  records.push({ style: STYLE[a.style], hair_length: a.hair_length, hair_colour: a.hair_colour, background: a.background, glasses: a.glasses, beard: a.beard ? "beard" : "none", shirt: a.shirt ?? "none" });
}
fs.closeSync(file);
fs.writeFileSync(out + ".json", JSON.stringify(records));
