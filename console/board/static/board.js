// What the pages do beyond what they do without this: they stay up to date, count seconds, and ask before they destroy.
"use strict";

const inWords = (seconds) => {
  const s = Math.max(0, Math.floor(seconds)), pad = (n) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} min`;
  return s >= 60 ? `${Math.floor(s / 60)} min ${pad(s % 60)} s` : `${s} s`;
};

const count = () => {
  for (const place of document.querySelectorAll("[data-since]")) {
    const until = Number(place.dataset.until) || Date.now() / 1000;
    place.textContent = inWords(until - Number(place.dataset.since));
  }
};

const watch = (run) => {
  const source = new EventSource(run.dataset.live);
  for (const part of run.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (event) => {
      if (part.contains(document.activeElement) && part.querySelector("form")) {
        part.dataset.missed = event.data; // somebody is writing there
        return;
      }
      part.innerHTML = JSON.parse(event.data);
      count();
    });
    part.addEventListener("focusout", () => setTimeout(() => {
      if (part.dataset.missed && !part.contains(document.activeElement)) {
        part.innerHTML = JSON.parse(part.dataset.missed);
        delete part.dataset.missed;
      }
    }, 200));
  }
  source.addEventListener("over", () => { source.close(); location.reload(); });
};

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.dataset.sure && !confirm(button.dataset.sure)) event.preventDefault();
});

count();
setInterval(count, 1000);
for (const run of document.querySelectorAll("[data-live]")) watch(run);
