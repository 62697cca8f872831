// Queries to try, a few in each of several scripts, which take turns while nobody uses the page.
import { button, byId, still } from "./dom.js";

const TURN_MS = 6000;
const SETS = [
  {
    de: "Geschenk", zh: "大象", fr: "cœur brisé", es: "caballo", ja: "ギター", ko: "무지개",
    ru: "велосипед", ar: "كتاب", en: "red apple",
  },
  {
    de: "Glühbirne", zh: "彩虹", fr: "baleine", it: "tartaruga", ja: "ロケット", ko: "펭귄",
    ru: "бабочка", fa: "دوچرخه", en: "full moon",
  },
  {
    de: "Schmetterling", zh: "企鹅", es: "cohete", it: "pupazzo di neve", ja: "自転車", ko: "무지개",
    id: "gajah", fa: "قلب شکسته", en: "snail",
  },
];

let turn = 0;
let paused = false;

export function startExamples(chosen) {
  const examples = byId("examples");
  examples.addEventListener("click", (event) => {
    if (event.target.matches("button")) chosen(event.target.textContent);
  });
  const pause = byId("examples-pause");
  pause.hidden = still();
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
  });
  draw();
  setInterval(() => {
    const used = document.hidden || byId("gallery").hidden || byId("opened").open || byId("query").value ||
      examples.matches(":hover, :focus-within");
    if (paused || used || still()) return;
    turn = (turn + 1) % SETS.length;
    draw();
  }, TURN_MS);
}

function draw() {
  byId("examples").replaceChildren(...Object.entries(SETS[turn]).map(([lang, query]) =>
    button("", query, { lang, dir: "auto" })));
}
