// Keeps a page live: server-sent events carry rendered HTML, and a page without events shows that it is out of date.
// <body data-live="/events"> names the stream; an event named X replaces the element with id "live-X"; an event named
// "row-X" puts a row on top of the table body with id "live-X" and drops the last one past data-rows.
(() => {
  "use strict";
  const url = document.body.dataset.live;
  if (!url || !window.EventSource) return;
  const STALE_MS = 15000;
  let heard = Date.now();
  const mark = () => document.body.classList.toggle("is-stale", Date.now() - heard > STALE_MS);
  const hear = () => { heard = Date.now(); mark(); };
  const source = new EventSource(url);
  // Only what the server says counts: a connection that opens and ends in silence proves nothing.
  source.addEventListener("beat", hear);
  for (const target of document.querySelectorAll("[id^='live-']")) {
    const name = target.id.slice(5);
    source.addEventListener(name, (event) => { hear(); target.innerHTML = event.data; });
    source.addEventListener("row-" + name, (event) => {
      hear();
      target.insertAdjacentHTML("afterbegin", event.data);
      target.firstElementChild?.classList.add("fresh");
      while (target.children.length > Number(target.dataset.rows || 50)) target.lastElementChild.remove();
    });
  }
  setInterval(mark, 1000);
})();
