// The line at the bottom of the page: connection, jobs of everybody, devices with their memory. What the socket tells is shown as it comes.

easel.statusLine = (root) => {
  const part = (name, attributes = {}) => root.appendChild(easel.make("span", { class: name, ...attributes }));
  const dot = part("dot", { "aria-hidden": "true" });
  easel.status = { root, dot, connection: part("connection", { role: "status" }), queue: part("jobs"), devices: part("devices") };
  root.setAttribute("role", "contentinfo");
  root.setAttribute("aria-label", "Status");
  easel.showStatus();
};

easel.setConnected = (connected) => { easel.connected = connected; easel.showStatus(); };
easel.setWorker = (worker) => { easel.worker = worker; easel.showStatus(); };
easel.REACH = {
  own: "Only this machine can reach this Easel",
  locked: "Other machines can reach this Easel with a password",
  open: "Everybody who can reach this machine can use this Easel: it asks for no password",
};
easel.setReach = (reach) => { easel.reach = document.documentElement.dataset.reach = reach; easel.showStatus(); };
easel.setStatus = (status) => { easel.statusTold = status; easel.showStatus(); };

easel.showStatus = () => {
  if (!easel.status) return;
  const { root, connection, queue, devices } = easel.status;
  const told = easel.connected ? easel.statusTold : null;
  const ready = easel.connected && (easel.worker ?? "ready") === "ready";
  root.dataset.state = ready ? "ready" : "waiting";
  connection.title = easel.REACH[easel.reach] ?? "";
  connection.textContent = easel.connectionWords(told?.devices ?? []);
  queue.textContent = told ? easel.jobWords(told.running, told.waiting) : "";
  devices.replaceChildren(...easel.deviceGroups(told?.devices ?? []).map(easel.deviceNode));
};

easel.connectionWords = (devices) => {
  if (!easel.connected) return "reconnecting";
  if (easel.worker && easel.worker !== "ready") return easel.worker;
  if (easel.reach === "open") return "open to everybody";
  const ready = devices.filter((device) => device.state === "ready").length;
  return ready < devices.length ? `connected, ${ready} of ${devices.length} workers ready` : "connected";
};

easel.jobWords = (running, waiting) => {
  if (!running && !waiting) return "idle";
  return [running && `${running} running`, waiting && `${waiting} waiting`].filter(Boolean).join(", ");
};

// Devices of the same name on the same machine stand together. Cards add up; those who work on the CPU have one main memory between them.
easel.deviceGroups = (devices) => {
  const groups = new Map();
  for (const device of devices.filter((each) => each.name)) {
    const key = `${device.host}\n${device.name}`;
    const group = groups.get(key) ?? { ...device, count: 0, used: 0, total: 0, each: [] };
    group.count += 1;
    group.used = device.card ? group.used + device.used : device.used;
    group.total = device.card ? group.total + device.total : device.total;
    group.each.push(device);
    groups.set(key, group);
  }
  return Array.from(groups.values());
};

easel.deviceNode = (group) => {
  const memory = (device) => `${device.used.toFixed(1)} / ${device.total.toFixed(1)} GB`;
  const lines = group.each.map((device) => `${device.name} (${device.host}): ${device.busy ? "working" : device.state}, ${memory(device)}`);
  const gauge = easel.make("i", { class: "gauge", "aria-hidden": "true" });
  gauge.style.setProperty("--part", group.total ? group.used / group.total : 0);
  const name = easel.make("span", { class: "name" }, group.count > 1 ? `${group.count} × ${group.name}` : group.name);
  return easel.make("span", { class: "device", title: lines.join("\n") }, name, gauge, memory(group));
};
