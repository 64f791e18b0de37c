// Which key does what, and how the help shows it.

const KEYS = {
  " ": "play", r: "restart", arrowleft: "back", arrowright: "forward", "-": "slower", "−": "slower", "+": "faster", "=": "faster",
  l: "loop", "[": "range-start", "]": "range-end", "\\": "range-clear", z: "zoom", f: "fullscreen", k: "skeleton",
  a: "sound", m: "mute", q: "wrong-left", e: "wrong-right", backspace: "wrong-undo",
  b: "both-bad", 7: "sure-1", 8: "sure-2", 9: "sure-3", x: "flag-broken", o: "flag-offensive", n: "comment",
  enter: "save", s: "skip", u: "undo", g: "guidelines", "?": "keys",
};

const HELP = [
  ["Play", [
    ["Space", "play or pause both"], ["R", "from the beginning"], ["← →", "one frame back or on"], ["− +", "slower or faster, 0.25× to 1×"],
    ["L", "loop on or off"], ["[ ]", "loop from here, to here"], ["\\", "loop everything again"],
  ]],
  ["Look and listen", [
    ["Z", "zoom on the face"], ["Shift ← → ↑ ↓", "move the zoom"], ["F", "full screen"], ["K", "skeleton"], ["A", "hear the other clip"], ["M", "mute"],
  ]],
  ["Answer", [
    ["↑ ↓", "question above or below"], ["1 2 3 4", "left, same, right, both bad"], ["B", "both bad, all questions"], ["7 8 9", "unsure, fairly sure, sure"],
    ["Enter", "save and next"], ["S", "skip"], ["U", "undo the last saved pair"],
  ]],
  ["Say more", [
    ["Q E", "it goes wrong here: left, right clip; again where it ends"], ["⌫", "take the last mark back"], ["X O", "flag: broken, offensive"], ["N", "comment"],
    ["G", "guidelines"], ["?", "this help"],
  ]],
];

function helpTables() {
  return HELP.map(([heading, rows]) => {
    const section = document.createElement("section");
    const title = document.createElement("h3");
    title.textContent = heading;
    const list = document.createElement("dl");
    for (const [keys, meaning] of rows) {
      const term = document.createElement("dt");
      for (const key of keys.split(" ")) term.append(Object.assign(document.createElement("kbd"), { textContent: key }), " ");
      list.append(term, Object.assign(document.createElement("dd"), { textContent: meaning }));
    }
    section.append(title, list);
    return section;
  });
}
