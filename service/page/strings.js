// The page's own words, in the language that the server wrote it in.

const strings = JSON.parse(document.getElementById("strings").textContent);
export const language = document.documentElement.lang;
const isolates = document.documentElement.dir === "rtl";
const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

// The string of a key, with its {names} filled in. `n` chooses the plural, if there are several.
export function t(key, values = {}) {
  const found = strings[key];
  const text = typeof found === "string" ? found : found[plurals.select(values.n)] ?? found.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => shown(values[name]));
}

export function number(value) {
  return numbers.format(value);
}

export function percent(share) {
  const digits = share >= 0.1 ? 0 : 1;
  return share.toLocaleString(language, {
    style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
}

// From right to left, a name in another script must not turn what is beside it around.
function shown(value) {
  if (typeof value === "number") return number(value);
  return isolates ? `\u2068${value}\u2069` : value;
}
