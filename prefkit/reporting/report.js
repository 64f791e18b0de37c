"use strict";
// The clips of a row start together and start again together when the last has ended; the first leads,
// and one that drifts by more than a frame and a half is moved to it.
const DRIFT = 0.06;
const rows = [...document.querySelectorAll(".row")].map((figure) => ({
  figure,
  videos: [...figure.querySelectorAll("video")],
  playing: false,
}));
let heard = null;

function start(row) {
  row.playing = true;
  for (const video of row.videos) {
    video.currentTime = 0;
    video.play();
  }
}

function stop(row) {
  row.playing = false;
  row.videos.forEach((video) => video.pause());
}

function hear(row) {
  heard = row;
  for (const other of rows) {
    other.figure.classList.toggle("heard", other === row);
    other.videos.forEach((video, index) => { video.muted = other !== row || index > 0; });
  }
}

function showState() {
  const button = document.getElementById("play-all");
  if (button) button.textContent = rows.some((row) => row.playing) ? "❚❚ Stop all" : "▶ Play all";
}

function toggle(row) {
  if (row.playing) stop(row); else start(row);
  showState();
}

function keepInStep() {
  for (const row of rows) {
    if (!row.playing) continue;
    if (row.videos.every((video) => video.ended)) { start(row); continue; }
    const [lead, ...others] = row.videos;
    for (const video of others) {
      if (lead.ended || video.ended || lead.seeking || video.seeking) continue;
      if (Math.abs(video.currentTime - lead.currentTime) > DRIFT) video.currentTime = lead.currentTime;
    }
  }
  requestAnimationFrame(keepInStep);
}

for (const row of rows) {
  row.figure.addEventListener("click", (event) => {
    event.preventDefault();
    if (heard === row || !row.playing) toggle(row);
    hear(row);
  });
  row.figure.addEventListener("focus", () => { if (row.figure.matches(":focus-visible")) hear(row); });
  row.figure.addEventListener("keydown", (event) => {
    if (event.key !== " ") return;
    event.preventDefault();
    toggle(row);
  });
}
document.getElementById("play-all")?.addEventListener("click", () => {
  const any = rows.some((row) => row.playing);
  rows.forEach(any ? stop : start);
  if (!any && !heard && rows.length) hear(rows[0]);
  showState();
});
requestAnimationFrame(keepInStep);
