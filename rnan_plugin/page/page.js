"use strict";
const $ = id => document.getElementById(id);
const POLL = 250; // ms between two looks at the queue
const KEPT = "rnan-jobs"; // ids of this tab's jobs, so that reloading shows them again
const cards = new Map(); // by id of the job, or by the card itself while its file has none yet
const unsent = []; // cards whose files wait for room in the queue
let options, isBusy = false;

// What is asked for

const taskOf = name => options.tasks.find(task => task.name === name);
const percent = share => `${Math.floor(100 * share)} %`;

function settings() {
  const clean = $("clean").checked;
  return { task: $("task").value, level: $("level").value, format: clean ? "" : $("format").value, clean: clean ? "1" : "" };
}

/** Let the form offer what goes together: a clean picture needs a task with its level. */
function fit() {
  const clean = $("clean").checked;
  $("task").options[0].disabled = $("format").disabled = clean;
  if (clean && $("task").value === "auto") { $("task").value = options.tasks[0].name; $("level").value = ""; }
  const task = taskOf($("task").value), isLevelled = Boolean(task?.level);
  $("level").disabled = !isLevelled;
  if (!isLevelled) $("level").value = "";
  else if (clean && !$("level").value) $("level").value = task.typical;
  $("level-label").firstElementChild.textContent = isLevelled ? `Level: ${task.level}` : "Level";
  $("level").placeholder = task && !isLevelled ? "none" : "found in each file";
}

function fill(told) {
  options = told;
  $("task").append(new Option("found in each file", "auto"), ...told.tasks.map(task => new Option(task.title, task.name)));
  $("limits").textContent = `up to ${told.limits.bytes / 2 ** 20} MiB and ${told.limits.pixels / 1e6} megapixels each`;
  $("version").textContent = `rnan_plugin ${told.version}. The last ${told.limits.kept} results are kept until the command ends.`;
  $("curl").textContent = `curl --data-binary @photo.jpg -o restored.png "${location.origin}/api/restore?name=photo.jpg&format=png"`;
  fit();
}

// To the server and back

/** Its answer, or an error whose message is a line for the user. */
async function ask(path, how = {}) {
  let answer;
  try { answer = await fetch(path, how); } catch { throw Object.assign(new Error("no answer: has rnan serve ended?"), { status: 0 }); }
  const told = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(told.error), { status: answer.status });
  return told;
}

/** Take files, each with what is asked for now. */
function take(files) {
  $("problem").textContent = "";
  for (const file of files) enqueue(file, settings());
}

function enqueue(file, asked) {
  const card = makeCard(file.name);
  Object.assign(card, { file, asked });
  cards.set(card, card);
  if (file.size > options.limits.bytes) {
    const size = `${Math.ceil(file.size / 2 ** 20)} MiB are more than the ${options.limits.bytes / 2 ** 20} MiB that the page takes`;
    show(card, { state: "failed", error: `${file.name}: ${size}; use rnan restore for it` });
  } else {
    show(card, { state: "unsent" });
    unsent.push(card);
    turn();
  }
}

/** Send one file; false if there is no room for it yet. */
async function send(card) {
  const query = new URLSearchParams({ name: card.file.name, ...card.asked });
  try {
    const job = await ask(`/api/jobs?${query}`, { method: "POST", body: card.file });
    if (card.isRemoved) { await ask(`/api/jobs/${job.id}`, { method: "DELETE" }); return true; }
    cards.delete(card);
    cards.set(job.id, card);
    remember();
    show(card, job);
  } catch (error) {
    if (error.status === 503) return false;
    show(card, { state: "failed", error: error.message });
  }
  return true;
}

const isOpen = card => card.job && ["waiting", "working"].includes(card.job.state);

async function refresh(id, card) {
  try { show(card, await ask(`/api/jobs/${id}`)); } catch (error) {
    show(card, { ...card.job, state: "gone", error: error.status ? "not kept any more; restore it again" : error.message });
  }
}

/** Send what there is room for, and look at what is not done, until nothing is left; one turn at a time. */
async function turn() {
  if (isBusy) return;
  isBusy = true;
  while (unsent.length || [...cards.values()].some(isOpen)) {
    while (unsent.length && (unsent[0].isRemoved || await send(unsent[0]))) unsent.shift();
    const open = [...cards].filter(([, card]) => isOpen(card));
    for (const [id, card] of open) await refresh(id, card);
    // What has been finished may have taken the place of an older result.
    if (open.some(([, card]) => !isOpen(card)))
      for (const [id, card] of cards) if (card.job.state === "done") await refresh(id, card);
    await new Promise(done => setTimeout(done, POLL));
  }
  isBusy = false;
}

function remember() {
  sessionStorage.setItem(KEPT, JSON.stringify([...cards.keys()].filter(key => typeof key === "string")));
}

/** What this tab had before it was reloaded, as far as it is kept. */
async function recall() {
  for (const id of JSON.parse(sessionStorage.getItem(KEPT) || "[]")) {
    try {
      const job = await ask(`/api/jobs/${id}`), card = makeCard(job.name);
      cards.set(id, card);
      show(card, job);
    } catch { /* not kept any more */ }
  }
  remember();
  turn();
}

// Cards

function makeCard(name) {
  const root = $("job").content.cloneNode(true).firstElementChild, part = selector => root.querySelector(selector);
  const card = { root, part, name };
  part("h2").textContent = name;
  part("progress").ariaLabel = `Progress of ${name}`;
  part(".slider").ariaLabel = `Border between before and after, ${name}`;
  part(".remove").onclick = () => remove(card);
  part(".again").onclick = () => enqueue(card.file, settings());
  part(".compare").ontoggle = () => part(".compare").open && compare(card);
  part(".slider").oninput = () => place(card);
  part(".against select").onchange = () => compare(card);
  part(".pixels").onchange = event => { part(".view").classList.toggle("actual", event.target.checked); place(card); };
  part(".scroll").onscroll = () => place(card);
  part(".right").onload = () => place(card);
  drag(card);
  $("jobs").prepend(root);
  return card;
}

function remove(card) {
  card.isRemoved = true;
  const next = card.root.nextElementSibling ?? card.root.previousElementSibling;
  (next?.querySelector(".remove") ?? $("files")).focus();
  card.root.remove();
  cards.delete(card);
  if (card.job?.id) {
    cards.delete(card.job.id);
    ask(`/api/jobs/${card.job.id}`, { method: "DELETE" }).catch(() => {}); // gone already
  }
  remember();
}

/** The task that was chosen, in words: "JPEG artefacts, quality 10". */
function inWords(chosen) {
  const [name, level] = (chosen || "").split(" "), task = taskOf(name);
  return task ? task.title + (level ? `, ${task.level} ${level}` : "") : chosen;
}

const STATES = {
  unsent: () => "waiting for room in the queue",
  waiting: job => job.ahead > 1 ? `waiting, number ${job.ahead} in the queue` : "waiting, next in the queue",
  working: job => job.task ? `${inWords(job.task)}: ${percent(job.progress)}` : "looking at it",
  done: job => job.left_as_it_is ? "Left as it is" : `Restored: ${inWords(job.task)}`,
  failed: job => job.error,
  gone: job => job.error,
};

function show(card, job) {
  const { part, root } = card, before = card.job?.state;
  card.job = job;
  root.className = `panel job ${job.state}`;
  part(".state").textContent = STATES[job.state](job);
  part("progress").hidden = !["waiting", "working", "unsent"].includes(job.state);
  part("progress").value = job.progress ?? 0;
  part(".download").hidden = part(".compare").hidden = job.state !== "done";
  part(".again").hidden = !(card.file && ["done", "failed", "gone"].includes(job.state));
  if (job.state === before) return;
  if (job.state === "done") finish(card);
  if (job.state === "done") $("told").textContent = `${card.name}: ${STATES.done(job)}`;
  if (job.state === "failed") $("told").textContent = job.error;
}

function finish(card) {
  const { part, job } = card;
  part(".download").href = `/api/jobs/${job.id}/result`;
  part(".download").download = job.file;
  const lines = job.lines.filter(line => !line.includes(" -> ")).map(line => line.replace(`${job.name}: `, "")); // of this card
  part(".lines").replaceChildren(...lines.map(line => Object.assign(document.createElement("li"), { textContent: line })));
  part(".against").hidden = !job.scores;
  part(".scores").hidden = !job.scores;
  if (job.scores) part(".scores tbody").replaceChildren(row("degraded", job.scores.before), row("restored", job.scores.after));
  part(".compare").open = cards.size === 1 && !job.left_as_it_is;
}

function row(name, { psnr, ssim }) {
  const tr = document.createElement("tr"), head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
  tr.append(head);
  tr.insertCell().textContent = psnr === null ? "∞" : `${psnr.toFixed(2)} dB`;
  tr.insertCell().textContent = ssim.toFixed(4);
  return tr;
}

// Before and after

function compare({ part, job, name }) {
  const against = part(".against select"), left = job.scores ? against.value : "before";
  part(".tag.before").textContent = job.scores ? against.selectedOptions[0].text : "before";
  part(".tag.after").textContent = job.left_as_it_is ? "left as it is" : "restored";
  for (const [selector, picture] of [[".left", left], [".right", "after"]]) {
    const address = `/api/jobs/${job.id}/${picture}.png`;
    if (part(selector).getAttribute("src") !== address) Object.assign(part(selector), { src: address, alt: `${name}, ${picture}` });
  }
}

/** The slider's border, over what is to be seen of the picture. */
function place({ part }) {
  const { value } = part(".slider"), view = part(".scroll"), stack = part(".stack");
  const border = view.scrollLeft + view.clientWidth * value / 100 - stack.offsetLeft;
  stack.style.setProperty("--split", `${Math.min(Math.max(border, 0), stack.clientWidth)}px`);
  part(".bar").style.left = `${value}%`;
  part(".slider").ariaValueText = `${value} % before, ${100 - value} % after`;
}

function drag(card) {
  const view = card.part(".view"), slider = card.part(".slider");
  const move = event => {
    if (!event.buttons || view.classList.contains("actual")) return;
    const box = view.getBoundingClientRect();
    slider.value = 100 * (event.clientX - box.left) / box.width;
    place(card);
  };
  view.onpointerdown = event => { if (!view.classList.contains("actual")) view.setPointerCapture(event.pointerId); move(event); };
  view.onpointermove = move;
  view.ondragstart = event => event.preventDefault();
}

// The page as a whole

$("files").onchange = event => { take(event.target.files); event.target.value = ""; };
for (const kind of ["dragenter", "dragover"]) addEventListener(kind, event => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
addEventListener("drop", event => { event.preventDefault(); $("drop").classList.remove("over"); take(event.dataTransfer.files); });
addEventListener("paste", event => take(event.clipboardData.files));
addEventListener("resize", () => cards.forEach(card => place(card)));
$("settings").onsubmit = event => event.preventDefault();
$("task").onchange = () => { $("level").value = ""; fit(); };
$("clean").onchange = fit;
ask("/api/options").then(fill).then(recall).catch(error => { $("problem").textContent = error.message; });
