// Elements made in code: text stays text, whatever it holds.

export const byId = (id) => document.getElementById(id);

/** An element; `properties` are set on it (`class` and `data` as one writes them), children are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const shares = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const signed = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1, signDisplay: "exceptZero" });

/** 0.8312 -> "83.1%". A probability that is not quite 0 or 1 does not read as if it were. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1%";
  if (share < 1 && share >= 0.9995) return ">99.9%";
  return shares.format(share);
}

/** 0.0812 -> "+8.1", in percentage points. */
export const points = (share) => signed.format(share * 100);

const SIZES = [[1e6, "MB"], [1e3, "kB"], [1, "bytes"]];

export function bytes(count) {
  const [unit, name] = SIZES.find(([unit]) => count >= unit) ?? [1, "bytes"];
  const number = count / unit;
  return `${unit > 1 && number < 10 ? Number(number.toFixed(1)) : Math.round(number)} ${name}`;
}

export const megapixels = (count) => `${Number((count / 1e6).toFixed(1))} megapixels`;
