// Keeps what is on the screen up to date, and copies. Every page can be read and used without it.
"use strict";
(() => {
  const reveal = (root) => {
    for (const button of root.querySelectorAll("button.script[hidden]")) button.hidden = false;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const name = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = name; }, 2000);
    } catch {
      // Without the right to write, what is to be copied is at least selected.
      getSelection().selectAllChildren(source);
    }
  });

  // Makes one element like another, and keeps each node that stays: with the focus, the scroll position and what is
  // open or typed.
  const sync = (now, next) => {
    if (now.isEqualNode(next)) return;
    if (now.nodeType !== next.nodeType || now.nodeName !== next.nodeName) {
      now.replaceWith(next);
      return;
    }
    if (now.nodeType !== Node.ELEMENT_NODE) {
      now.nodeValue = next.nodeValue;
      return;
    }
    const isField = now.matches("input, select, textarea");
    const kept = (name) =>
      (now.nodeName === "DETAILS" && name === "open") ||
      (now.matches("button.script") && name === "hidden") ||
      (isField && now.type !== "hidden" && (name === "value" || name === "checked"));
    for (const { name } of [...now.attributes]) {
      if (!next.hasAttribute(name) && !kept(name)) now.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (now.getAttribute(name) !== value && !kept(name)) now.setAttribute(name, value);
    }
    if (now.nodeName === "SELECT") return;
    const atEnd = now.id === "log" && now.scrollHeight - now.scrollTop - now.clientHeight < 8;
    syncChildren(now, next);
    if (atEnd) now.scrollTop = now.scrollHeight;
  };

  const syncChildren = (now, next) => {
    const wantedIds = new Set([...next.children].map((child) => child.id));
    const byId = new Map();
    for (const child of [...now.children]) {
      if (!child.id) continue;
      // What goes, goes first: so the rest stays in its place, and keeps the focus.
      if (wantedIds.has(child.id)) byId.set(child.id, child);
      else child.remove();
    }
    let place = now.firstChild;
    for (const wanted of [...next.childNodes]) {
      const known = wanted.id ? byId.get(wanted.id) : undefined;
      if (known) {
        if (known === place) place = place.nextSibling;
        else now.insertBefore(known, place);
        byId.delete(wanted.id);
        sync(known, wanted);
      } else if (place && !wanted.id && !place.id && place.nodeName === wanted.nodeName) {
        const following = place.nextSibling;
        sync(place, wanted);
        place = following;
      } else {
        now.insertBefore(wanted, place);
      }
    }
    while (place) {
      const following = place.nextSibling;
      place.remove();
      place = following;
    }
  };

  const log = document.getElementById("log");
  if (log) log.scrollTop = log.scrollHeight;
  reveal(document);

  let every = Number(document.body.dataset.every || 0) * 1000;
  if (!every) return;
  const content = document.getElementById("content");
  const text = document.getElementById("live-text");
  const pause = document.getElementById("live-pause");
  document.getElementById("live").hidden = false;
  let tag = "", timer = 0, paused = false;

  const say = (words) => { if (text.textContent !== words) text.textContent = words; };

  const refresh = async () => {
    timer = 0;
    if (paused || document.hidden) return;
    try {
      const headers = { "X-Multidb-Live": "1" };
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch(location.href, { headers, cache: "no-store" });
      if (answer.status === 200) {
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = next.getElementById("content");
        if (!paused && fresh) {
          sync(content, document.adoptNode(fresh));
          reveal(content);
          tag = answer.headers.get("ETag") || "";
          if (!next.body.dataset.every) {
            say("Complete.");
            pause.hidden = true;
            return;
          }
        }
        say("Updates itself.");
      } else if (answer.status === 304) {
        say("Updates itself.");
      } else if (answer.status === 401) {
        say("You are logged out: reload the page to log in.");
        return;
      } else if (answer.status === 404) {
        say("This no longer exists.");
        return;
      } else {
        say("The daemon could not answer; it is asked again.");
      }
    } catch {
      say("The daemon does not answer; it is asked again.");
    }
    schedule();
  };

  const schedule = () => {
    if (!timer && !paused && !document.hidden) timer = setTimeout(refresh, every);
  };

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) {
      clearTimeout(timer);
      timer = 0;
      say("Does not update itself.");
    } else {
      refresh();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !timer) refresh();
  });
  say("Updates itself.");
  schedule();
})();
