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

// A question never changes while it is open: what somebody writes in its form stays, whatever else does.
const renewQuestions = (part, html) => {
  const news = document.createElement("template");
  news.innerHTML = html;
  const open = new Map([...news.content.querySelectorAll("[data-question]")].map((one) => [one.dataset.question, one]));
  for (const old of part.querySelectorAll("[data-question]")) {
    if (open.delete(old.dataset.question) || old.dataset.closed) continue;
    const form = old.querySelector("form");
    if (!form || !("kept" in form.dataset)) { old.remove(); continue; }
    old.dataset.closed = "yes";
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    const told = Object.assign(document.createElement("p"), { className: "trouble", role: "alert" });
    told.textContent = "This question is closed: somebody else has answered it, or it is asked no more. What you wrote was not sent.";
    form.before(told);
  }
  part.append(...open.values());
};

// Who goes through the page with the keyboard stays where they are, and what was unfolded stays so.
const renewInPlace = (part, html) => {
  const key = (one) => one.href ?? one.textContent;
  const focused = part.contains(document.activeElement) ? key(document.activeElement) : null;
  const unfolded = [...part.querySelectorAll("details[open] > summary")].map(key);
  part.innerHTML = html;
  for (const one of part.querySelectorAll("a, summary, button")) {
    if (unfolded.includes(key(one))) one.parentElement.open = true;
    if (key(one) === focused) one.focus({ preventScroll: true });
  }
};

const renew = (part, html) => {
  if (part.dataset.part === "questions") renewQuestions(part, html);
  else renewInPlace(part, html);
  count();
  entitle();
  tell();
};

// What waits for a person is told also where the page is one of many that are open.
const title = document.title;
const entitle = () => {
  const waiting = document.querySelectorAll(".question:not([data-closed])").length;
  document.title = waiting ? `(${waiting}) ${title}` : title;
};

// What models say comes apart from the rest of the page, as it changes more often.
let saying = {};
const tell = () => {
  for (const place of document.querySelectorAll("[data-step]")) {
    const words = saying[place.dataset.step];
    place.hidden = !words;
    place.textContent = words ? `… ${words}` : "";
  }
};

const watch = (run) => {
  if (location.pathname !== run.dataset.address) history.replaceState(null, "", run.dataset.address);
  const source = new EventSource(run.dataset.live);
  for (const part of run.querySelectorAll("[data-part]")) {
    source.addEventListener(part.dataset.part, (event) => renew(part, JSON.parse(event.data)));
  }
  source.addEventListener("saying", (event) => { saying = JSON.parse(event.data); tell(); });
  source.addEventListener("over", () => {
    source.close();
    if (!document.querySelector("form[data-kept]")) location.reload();
  });
};

// A transcript goes on with what is being said: words first, and in their place what was said, once it is whole.
const listen = (place) => {
  const source = new EventSource(place.dataset.words);
  const calls = new Map();
  const make = (name, classes, text = "") => Object.assign(document.createElement(name), { className: classes, textContent: text });
  const hear = (name, act) => source.addEventListener(name, (event) => {
    const news = JSON.parse(event.data);
    if (!calls.has(news.call)) calls.set(news.call, { entries: [], words: null });
    act(news, calls.get(news.call));
  });
  const drop = (call) => { call.words?.remove(); call.words = null; };
  hear("words", (news, call) => {
    if (!call.words) place.append(call.words = make("article", "said assistant saying"));
    let part = call.words.lastElementChild;
    if (!part || part.dataset.kind !== `${news.kind} ${news.tool ?? ""}`) {
      call.words.append(part = make("pre", news.kind === "text" ? "" : "dim", news.tool ? `${news.tool} ` : ""));
      part.dataset.kind = `${news.kind} ${news.tool ?? ""}`;
    }
    part.append(news.text);
  });
  hear("said", (news, call) => {
    drop(call);
    const one = make("article", `said ${news.said.who}`);
    one.append(make("h3", "", news.said.who));
    if (news.said.text) one.append(make("pre", "", news.said.text));
    for (const [name, argument] of news.said.tools) {
      const folded = make("details", "tool");
      folded.append(make("summary", "", `calls ${name}`), make("pre", "", argument));
      one.append(folded);
    }
    place.append(call.entries[news.number] = one);
  });
  hear("again", (news, call) => { drop(call); for (const one of call.entries.splice(news.stand)) one?.remove(); });
  hear("ended", (news, call) => { drop(call); calls.delete(news.call); });
  source.addEventListener("over", () => source.close());
};

document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (!form) return;
  form.dataset.kept = "";
  const approve = form.querySelector("button[name='answer.approve'][value=true]");
  if (approve && event.target.closest(".changes")) approve.textContent = "Approve with changes";
});

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button?.dataset.sure && !confirm(button.dataset.sure)) event.preventDefault();
});

const lookAgain = async (list) => {
  if (document.hidden) return;
  const answer = await fetch(location, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  renewInPlace(list, page.querySelector("[data-renew]").innerHTML);
};

count();
entitle();
setInterval(count, 1000);
for (const list of document.querySelectorAll("[data-renew]")) setInterval(() => lookAgain(list), 5000);
for (const run of document.querySelectorAll("[data-live]")) watch(run);
for (const place of document.querySelectorAll("[data-words]")) listen(place);
