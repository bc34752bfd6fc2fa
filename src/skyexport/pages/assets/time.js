/* Adds the reader's own time to each time in UTC. Pages are complete without it. */
"use strict";
(function () {
  var format;
  try {
    format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  } catch (error) {
    return;
  }
  var times = document.querySelectorAll(".post > footer time[datetime]");
  for (var i = 0; i < times.length; i++) {
    var instant = new Date(times[i].getAttribute("datetime"));
    if (isNaN(instant.getTime()) || instant.getTimezoneOffset() === 0) continue;
    var own = document.createElement("span");
    own.className = "own-time";
    own.textContent = " (" + format.format(instant) + " here)";
    times[i].appendChild(own);
  }
})();
