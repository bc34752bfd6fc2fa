// Search without a server. The files of the index are scripts, since a page from a disk may load nothing else:
// table.js (loaded before this one) names them, words-NNNNN.js have words with the ranks of their posts (0 is the
// oldest), posts-NNNNN.js have what results show. Each is loaded once, when a search needs it.
"use strict";

var skyexportSearch = (function () {
  const RESULTS = 20; // shown at a time
  const TYPING_MS = 150; // a search begins when nothing was typed for so long
  const PATIENCE_MS = 500; // a longer search says that it goes on
  const SNIPPET = 200; // characters
  const BEFORE_MATCH = 60; // of those, before the first match
  const MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December"];

  const table = window.skyexportTable;
  const byId = (name) => document.getElementById(name + "*");
  const section = byId("search");

  // --- Words: the rule of the index, see words.py ---

  const characterClass = (ranges) => ranges.map((range) =>
    range.map((code) => "\\u{" + code.toString(16) + "}").join("-")).join("");
  const pairs = table ? characterClass(table.pairs) : "";
  const ignored = table ? characterClass(table.ignored) : "";
  const wordCharacters = "\\p{L}\\p{M}\\p{N}" + pairs;
  const runPattern = () => new RegExp("[" + wordCharacters + "]+", "gu");
  const stretchPattern = () => new RegExp("[" + pairs + "]+|[^" + pairs + "]+", "gu");
  const pairPattern = new RegExp(table ? "[" + pairs + "]" : "(?!)", "u");
  const ignoredPattern = () => new RegExp("[" + ignored + "]+", "gu");
  // What belongs together in a text as it was written: a character with its marks, a syllable of Hangul parts.
  const unitPattern = () => new RegExp(
    "[\\u1100-\\u11ff\\ua960-\\ua97c\\ud7b0-\\ud7fb\\uffa0-\\uffdc]+|[^][\\p{M}\\uff9e\\uff9f" + ignored + "]*", "gu");

  function normalized(text) {
    return text.normalize("NFKC").toLowerCase().replace(/\u03c2/g, "\u03c3").replace(ignoredPattern(), "");
  }

  function wordsOfQuery(text) {
    const words = new Set();
    for (const run of normalized(text).match(runPattern()) || []) {
      for (const stretch of run.match(stretchPattern())) {
        const characters = Array.from(stretch);
        if (!pairPattern.test(characters[0])) {
          words.add(characters.slice(0, table.maxWord).join(""));
        } else if (characters.length === 1) {
          words.add(stretch);
        } else {
          for (let i = 1; i < characters.length; i++) words.add(characters[i - 1] + characters[i]);
        }
      }
    }
    return Array.from(words);
  }

  // The places [start, end) of a text where it matches one of the words, ascending, without overlaps.
  function matchesIn(text, words) {
    let plain = ""; // the text normalized unit by unit
    const starts = []; // of the unit from which each code unit of plain comes
    const ends = [];
    for (let match, units = unitPattern(); (match = units.exec(text));) {
      const part = normalized(match[0]);
      plain += part;
      for (let i = 0; i < part.length; i++) {
        starts.push(match.index);
        ends.push(match.index + match[0].length);
      }
    }
    const found = [];
    const note = (word, start, end) => {
      if (!words.some((wanted) => word.startsWith(wanted))) return;
      const last = found[found.length - 1];
      if (last && starts[start] <= last[1]) last[1] = Math.max(last[1], ends[end - 1]);
      else found.push([starts[start], ends[end - 1]]);
    };
    for (let run, runs = runPattern(); (run = runs.exec(plain));) {
      for (let part, parts = stretchPattern(); (part = parts.exec(run[0]));) {
        let start = run.index + part.index;
        const characters = Array.from(part[0]);
        if (!pairPattern.test(characters[0])) {
          note(characters.slice(0, table.maxWord).join(""), start, start + part[0].length);
          continue;
        }
        characters.forEach((character, i) => {
          const next = characters[i + 1] || "";
          if (words.includes(character)) note(character, start, start + character.length);
          else if (next) note(character + next, start, start + character.length + next.length);
          start += character.length;
        });
      }
    }
    return found;
  }

  // --- Files of the index ---

  const loads = new Map(); // name -> promise of what the file has
  const arrivals = new Map(); // name -> what to call with it

  function fileName(kind, number) {
    return kind + "-" + String(number).padStart(5, "0") + ".js";
  }

  function damaged(name) {
    return new Error("A file of the search index is missing or damaged: search/" + name);
  }

  function load(kind, number) {
    const name = fileName(kind, number);
    if (!loads.has(name)) {
      loads.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        const fail = () => {
          loads.delete(name); // the next search tries again
          script.remove();
          reject(damaged(name));
        };
        arrivals.set(name, resolve);
        script.onerror = fail;
        script.onload = () => {
          if (arrivals.delete(name)) fail(); // it has not called
          else script.remove();
        };
        script.src = section.dataset.root + "search/" + name;
        document.head.append(script);
      }));
    }
    return loads.get(name);
  }

  function arrive(name, content) {
    const resolve = arrivals.get(name);
    arrivals.delete(name);
    if (resolve) resolve(content);
  }

  // Whether text a comes after text b in the order of code points, which is that of the index.
  function isAfter(a, b) {
    const left = Array.from(a);
    const right = Array.from(b);
    for (let i = 0; i < left.length && i < right.length; i++) {
      if (left[i] !== right[i]) return left[i].codePointAt(0) > right[i].codePointAt(0);
    }
    return left.length > right.length;
  }

  // The numbers of the files that may have words beginning with this one.
  function wordFiles(word) {
    const firsts = table.wordFiles;
    const numbers = [];
    for (let i = 0; i < firsts.length; i++) {
      if (firsts[i].startsWith(word)) numbers.push(i + 1);
      else if (isAfter(firsts[i], word)) break;
      else if (i + 1 === firsts.length || !isAfter(word, firsts[i + 1])) numbers.push(i + 1);
    }
    return numbers;
  }

  // The index of the last of ascending numbers that is not greater than this one.
  function placeIn(numbers, number) {
    let low = 0;
    for (let high = numbers.length; high - low > 1;) {
      const middle = (low + high) >> 1;
      if (numbers[middle] <= number) low = middle;
      else high = middle;
    }
    return low;
  }

  function loadDocument(rank) {
    const place = placeIn(table.postFiles, rank);
    return load("posts", place + 1).then((file) => {
      const post = file.posts[rank - table.postFiles[place]];
      if (!post) throw damaged(fileName("posts", place + 1));
      const [path, anchor, time, author, text] = post;
      return { path: file.paths[path], anchor, time, author, text };
    });
  }

  // --- Searching ---

  const digitValues = new Uint8Array(128);
  if (table) for (let i = 0; i < 64; i++) digitValues[table.digits.charCodeAt(i)] = i;

  // Mark the posts of a word that have the marks of all words before it.
  function mark(marks, codes, before) {
    let rank = 0;
    let number = 0;
    for (let i = 0; i < codes.length; i++) {
      const digit = digitValues[codes.charCodeAt(i)];
      number = number * 32 + (digit & 31);
      if (digit < 32) {
        rank += number;
        number = 0;
        if (marks[rank] === before) marks[rank] = before + 1;
      }
    }
  }

  // The first and the last rank of the chosen months.
  function ranksOf(from, to) {
    if (!from && !to) return [0, table.posts - 1];
    if (from && to && from > to) [from, to] = [to, from];
    const chosen = [];
    table.months.forEach(([month, first], i) => {
      if (!month || (from && month < from) || (to && month > to)) return;
      chosen.push(first, (i + 1 < table.months.length ? table.months[i + 1][1] : table.posts) - 1);
    });
    return chosen.length ? [chosen[0], chosen[chosen.length - 1]] : [0, -1];
  }

  // The ranks of the posts that match, newest first.
  async function find(query) {
    // A word that another one begins with is met by whatever meets the other.
    const wanted = query.words.filter((word) => !query.words.some((other) => other !== word && other.startsWith(word)));
    const tests = wanted.map((word) => [word, (other) => other.startsWith(word)]);
    if (query.author) tests.push(["@" + query.author, (other) => other === "@" + query.author]);
    const files = await Promise.all(tests.map(([word]) =>
      Promise.all(wordFiles(word).map((number) => load("words", number)))));
    const marks = new Uint16Array(table.posts);
    tests.forEach(([, isMet], i) => {
      for (const words of files[i]) {
        for (let j = 0; j < words.length; j += 2) if (isMet(words[j])) mark(marks, words[j + 1], i);
      }
    });
    const [first, last] = ranksOf(query.from, query.to);
    const ranks = [];
    for (let rank = last; rank >= first; rank--) if (marks[rank] === tests.length) ranks.push(rank);
    return ranks;
  }

  // --- Snippets ---

  const segmenter = window.Intl && Intl.Segmenter ? new Intl.Segmenter("en", { granularity: "grapheme" }) : null;

  // The nearest place before, or at, this one where a text may be cut.
  function border(text, place) {
    if (place <= 0 || place >= text.length) return Math.max(0, Math.min(place, text.length));
    // Graphemes are looked for nearby: a very long text would take too long.
    const start = Math.max(0, place - 100);
    if (segmenter) {
      const segment = segmenter.segment(text.slice(start, place + 100)).containing(place - start);
      if (segment && (segment.index > 0 || start === 0)) return start + segment.index;
    }
    while (place > 0 && /^(?:[\udc00-\udfff\u200d\ufe0f]|\p{M}|\ud83c[\udffb-\udfff])/u.test(text.slice(place))) place--;
    return place;
  }

  function appendSnippet(parent, text, words) {
    const matches = matchesIn(text, words);
    let start = 0;
    let end = text.length;
    if (text.length > SNIPPET + BEFORE_MATCH / 2) {
      const match = matches.length ? matches[0][0] : 0;
      start = match <= BEFORE_MATCH ? 0 : border(text, match - BEFORE_MATCH);
      const space = text.slice(start, match).search(/\s/);
      if (start > 0 && space >= 0 && space < BEFORE_MATCH / 2) start += space + 1;
      end = border(text, start + SNIPPET);
      if (end <= start) end = text.length; // one enormous grapheme
    }
    const append = (from, to) => {
      if (from < to) parent.append(text.slice(from, to));
    };
    if (start > 0) parent.append("\u2026");
    let place = start;
    for (const [from, to] of matches) {
      if (from < start) continue;
      if (from >= end) break;
      append(place, from);
      const marked = document.createElement("mark");
      place = Math.min(to, end);
      marked.textContent = text.slice(from, place);
      parent.append(marked);
    }
    append(place, end);
    if (end < text.length) parent.append("\u2026");
  }

  // --- The page ---

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric" });

  function dayOf(time) {
    const date = new Date(time);
    return time && !isNaN(date) ? days.format(date) : "Undated";
  }

  function labelOf(author) {
    const [label, handle] = table.authors[author] || ["", ""];
    if (!handle || handle === label) return label;
    return label ? label + " (@" + handle + ")" : "@" + handle;
  }

  function resultOf(post, words, number) {
    const item = element("li");
    const about = element("p", "about");
    const link = element("a");
    link.href = section.dataset.root + post.path.split("/").map(encodeURIComponent).join("/") + "#" +
      encodeURIComponent(post.anchor);
    const time = element("time", "", dayOf(post.time));
    if (post.time) time.dateTime = post.time;
    link.append(time);
    about.append(link);
    if (table.authors.length > 1) {
      const author = element("bdi", "author", labelOf(post.author));
      about.append(" ", author);
    }
    const snippet = element("p", "snippet");
    snippet.dir = "auto";
    snippet.id = "result-" + number + "*";
    link.setAttribute("aria-describedby", snippet.id);
    appendSnippet(snippet, post.text, words);
    item.append(about, snippet);
    return item;
  }

  function start() {
    const form = byId("search-form");
    const input = byId("search-words");
    const author = byId("search-author");
    const from = byId("search-from");
    const to = byId("search-to");
    const status = byId("search-status");
    const results = byId("search-results");
    const more = byId("search-more");
    section.hidden = false;
    if (!table) {
      status.textContent = damaged("table.js").message;
      return;
    }

    function addOption(parent, value, text) {
      const option = element("option", "", text);
      option.value = value;
      parent.append(option);
    }

    function show(select, isUseful) {
      for (const part of [select, ...select.labels]) part.hidden = !isUseful;
    }

    function fillMonths(select, none) {
      addOption(select, "", none);
      let group = null;
      for (const [month] of table.months.slice().reverse()) {
        if (!month) continue;
        const [year, number] = month.split("-");
        if (!group || group.label !== year) {
          group = element("optgroup");
          group.label = year;
          select.append(group);
        }
        addOption(group, month, MONTHS[Number(number) - 1] + " " + year);
      }
      show(select, table.months.length > 1);
    }

    addOption(author, "", "All authors");
    if (table.authors.length > 1) table.authors.forEach((_, i) => addOption(author, String(i), labelOf(i)));
    show(author, table.authors.length > 1);
    fillMonths(from, "The first month");
    fillMonths(to, "The last month");

    const fields = [["q", input], ["author", author], ["from", from], ["to", to]];
    const asked = new URLSearchParams(location.search);
    for (const [name, field] of fields) {
      const value = asked.get(name) || "";
      if (field === input) field.value = value;
      else if (Array.from(field.options).some((option) => option.value === value)) field.value = value;
    }

    let current = null; // the query whose results are shown, or looked for
    let timer = 0;

    function keepAddress() {
      const parameters = new URLSearchParams(location.search);
      for (const [name, field] of fields) {
        if (field.value) parameters.set(name, field.value);
        else parameters.delete(name);
      }
      const text = parameters.toString();
      try {
        history.replaceState(history.state, "", location.pathname + (text ? "?" + text : "") + location.hash);
      } catch (error) {
        // Some browsers do not allow it for files.
      }
    }

    function say(query) {
      const found = query.ranks.length;
      let text = found === 0 ? "Nothing was found."
        : found === 1 ? "1 post was found." : found.toLocaleString("en") + " posts were found.";
      if (query.shown < found) text = text.slice(0, -1) + "; the newest " + query.shown + " are shown.";
      status.textContent = text;
    }

    async function showMore(query) {
      const ranks = query.ranks.slice(query.shown, query.shown + RESULTS);
      const posts = await Promise.all(ranks.map(loadDocument));
      if (query !== current) return null;
      if (query.shown === 0) results.textContent = "";
      const items = posts.map((post, i) => resultOf(post, query.words, query.shown + i + 1));
      results.append(...items);
      query.shown += items.length;
      more.hidden = query.shown >= query.ranks.length;
      say(query);
      return items[0] || null;
    }

    function clear(text) {
      results.textContent = "";
      more.hidden = true;
      status.textContent = text;
    }

    // Do what a search or a part of it has to do; say so if it takes long or fails, unless another one has begun.
    async function attempt(query, work) {
      results.setAttribute("aria-busy", "true");
      const waiting = setTimeout(() => {
        if (query === current) status.textContent = "Searching\u2026";
      }, PATIENCE_MS);
      try {
        return await work();
      } catch (error) {
        if (query === current) {
          clear(error.message);
          current = null;
        }
        return null;
      } finally {
        clearTimeout(waiting);
        if (query === current || !current) results.removeAttribute("aria-busy");
      }
    }

    function search() {
      clearTimeout(timer);
      const words = wordsOfQuery(input.value);
      const key = JSON.stringify([words, author.value, from.value, to.value]);
      keepAddress();
      if (current && current.key === key) return;
      if (!words.length) {
        current = null;
        results.removeAttribute("aria-busy");
        clear(input.value.trim() ? "Only words are searched for: letters and digits." : "");
        return;
      }
      const query = { key, words, author: author.value, from: from.value, to: to.value, ranks: [], shown: 0 };
      current = query;
      attempt(query, async () => {
        query.ranks = await find(query);
        if (query === current) await showMore(query);
      });
    }

    function searchSoon(event) {
      if (event && event.isComposing) return;
      clearTimeout(timer);
      timer = setTimeout(search, TYPING_MS);
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      search();
    });
    input.addEventListener("input", searchSoon);
    input.addEventListener("compositionend", searchSoon);
    for (const select of [author, from, to]) select.addEventListener("change", search);
    more.addEventListener("click", () => {
      const query = current;
      if (!query || !query.shown || results.hasAttribute("aria-busy")) return;
      attempt(query, () => showMore(query)).then((first) => {
        if (first) first.querySelector("a").focus();
      });
    });
    window.addEventListener("pageshow", () => {
      if (input.value || current) search(); // browsers may have put in again what was typed before
    });
    if (input.value) search();
  }

  const api = {
    words: (number, content) => arrive(fileName("words", number), content.split(" ")),
    posts: (number, content) => arrive(fileName("posts", number), content),
    wordsOfQuery,
  };
  if (section) start(); // a script with "defer" runs when the page has been read
  return api;
})();
