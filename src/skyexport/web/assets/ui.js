/* Shows what is running without loading the page again. Without scripts, such pages load themselves again. */
"use strict";
(function () {
  if (!document.body.hasAttribute("data-live")) return;
  var root = document.body.getAttribute("data-root");
  var source = null;
  var timer = 0;
  var leaving = false;

  function part(place, name) {
    return place.querySelector('[data-part="' + name + '"]');
  }

  // A page that is about to be left must not change, nor load itself again, which would cancel that.
  function leave() {
    leaving = true;
    close();
    setTimeout(function () { leaving = false; open(); }, 3000);
  }

  function reload() {
    if (leaving) return;
    leave();
    location.reload();
  }

  function show(state) {
    var counting = document.querySelectorAll("[data-counting]");
    for (var i = 0; i < counting.length; i++) {
      if (state.counting.indexOf(Number(counting[i].getAttribute("data-counting"))) < 0) return reload();
    }
    var jobs = {};
    state.jobs.forEach(function (job) { jobs[job.number] = job; });
    var places = document.querySelectorAll("[data-job]");
    for (var j = 0; j < places.length; j++) {
      var job = jobs[places[j].getAttribute("data-job")];
      if (!job || job.state !== places[j].getAttribute("data-state")) return reload();
      if (job.sentence !== undefined) update(places[j], job);
    }
  }

  function update(place, job) {
    var sentence = part(place, "sentence");
    if (sentence && sentence.textContent !== job.sentence && job.state !== "waiting") sentence.textContent = job.sentence;
    var bar = part(place, "bar");
    if (bar) {
      if (job.fraction === null) bar.removeAttribute("value"); else bar.value = job.fraction;
    }
    var figures = part(place, "figures");
    if (!figures) return;
    figures.textContent = "";
    Object.keys(job.figures).forEach(function (name) {
      var row = document.createElement("div");
      var term = document.createElement("dt");
      var value = document.createElement("dd");
      term.textContent = name;
      value.textContent = job.figures[name];
      row.append(term, value);
      figures.append(row);
    });
  }

  function ask() {
    fetch(root + "/state").then(function (answer) { return answer.json(); }).then(show).catch(function () {});
  }

  function open() {
    if (leaving || document.hidden || source || timer) return;
    if (!window.EventSource) {
      timer = setInterval(ask, 1000);
      return;
    }
    source = new EventSource(root + "/events");
    source.onmessage = function (event) { show(JSON.parse(event.data)); };
    source.onerror = function () {
      // A browser gives up after some answers; then the page asks.
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        timer = setInterval(ask, 1000);
      }
    };
  }

  function close() {
    if (source) source.close();
    clearInterval(timer);
    source = null;
    timer = 0;
  }

  // A browser has six connections to a server: tabs that nobody sees leave theirs to others.
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) close(); else open();
  });
  document.addEventListener("submit", leave);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
