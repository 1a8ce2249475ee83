// Takes profiles, shows the one that is chosen, and lists those that are kept.
const find = (id) => document.getElementById(id);
const base = "profile/";

const show = (id, since) => {
  const query = since ? `&since=${since}` : "";
  find("graph").src = `${base}kept/${id}?format=svg${query}`;
  find("graph").hidden = false;
};

const amount = (profile) => profile.kind === "cpu"
  ? `${(profile.total / 1e9).toFixed(2)} s`
  : `${(profile.total / 1048576).toFixed(1)} MiB`;

const cell = (row, content, name) => {
  const added = row.insertCell();
  added.append(...[content].flat());
  added.className = name || "";
};

const link = (text, address) => {
  const added = document.createElement("a");
  added.textContent = text;
  added.href = address;
  return added;
};

const row = (profile) => {
  const added = find("kept").insertRow();
  const address = `${base}kept/${profile.id}?format=`;
  const graph = link("Graph", `${address}svg`);
  graph.addEventListener("click", (event) => {
    event.preventDefault();
    show(profile.id);
  });
  cell(added, new Date(profile.started).toLocaleTimeString());
  cell(added, { cpu: "processor", heap: "heap", heap_growth: "heap growth" }[profile.kind]);
  cell(added, profile.method.replace("_", " "));
  cell(added, profile.seconds.toFixed(1), "number");
  cell(added, amount(profile), "number");
  cell(added, profile.notes.join(" "));
  cell(added, [graph, link("pprof", `${address}pprof`), link("Folded", `${address}folded`)]);
};

const list = async () => {
  const answer = await fetch(`${base}kept`);
  if (!answer.ok) return;
  const listing = await answer.json();
  find("kept").replaceChildren();
  listing.profiles.forEach(row);
  const chosen = find("since").value;
  const heaps = listing.profiles.filter((profile) => profile.kind === "heap");
  const options = heaps.map((profile) => new Option(new Date(profile.started).toLocaleTimeString(), profile.id));
  find("since").replaceChildren(new Option("the start", ""), ...options);
  find("since").value = heaps.some((profile) => String(profile.id) === chosen) ? chosen : "";
};

const choose = () => {
  const isHeap = find("kind").value === "heap";
  document.querySelectorAll(".cpu").forEach((label) => { label.hidden = isHeap; });
  document.querySelectorAll(".heap").forEach((label) => { label.hidden = !isHeap; });
};

const take = async (event) => {
  event.preventDefault();
  const kind = find("kind").value;
  const seconds = kind === "cpu" ? find("seconds").valueAsNumber : 0;
  const since = kind === "heap" ? find("since").value : "";
  const query = kind === "cpu" ? `seconds=${seconds}&hz=${find("hz").valueAsNumber}&format=folded` : "format=folded";
  const began = performance.now();
  find("message").textContent = "";
  find("start").disabled = true;
  find("progress").hidden = false;
  const timer = setInterval(() => {
    find("progress").value = seconds > 0 ? Math.min((performance.now() - began) / seconds / 1000, 1) : 0;
  }, 200);
  try {
    const answer = await fetch(`${base}${kind}?${query}`);
    if (answer.ok) {
      show(answer.headers.get("x-profile-id"), since);
    } else {
      const problem = await answer.json();
      find("message").textContent = problem.detail || problem.title;
    }
  } catch (error) {
    find("message").textContent = "The server did not answer.";
  }
  clearInterval(timer);
  find("progress").hidden = true;
  find("start").disabled = false;
  await list();
};

find("kind").addEventListener("change", choose);
find("take").addEventListener("submit", take);
choose();
list();
