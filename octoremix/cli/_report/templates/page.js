"use strict";
(() => {
  // How many jobs are added to the page at a time.
  const STEP = 24;
  // More characters than these are shown in part first.
  const LONG = 400;
  const NOTHING = {
    all: "No jobs",
    done: "Nothing is done yet",
    failed: "Nothing failed",
    doubt: "Nothing is in doubt",
    running: "Nothing is running any more",
    unsent: "Everything was sent",
  };

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const list = byId("jobs");
  const more = byId("more");
  const find = byId("find");
  const chips = [...document.querySelectorAll(".chip")];
  const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
  const calendar = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

  let group = "all";
  let matching = data.jobs;
  let drawn = 0;

  for (const job of data.jobs) {
    job.text = [job.prompt, job.key, job.id, job.video, job.model, job.status, job.error]
      .filter(Boolean)
      .join("\n")
      .toLowerCase();
  }

  const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

  // Videos: asked for their first picture when they come near, let go when they are far away, for
  // browsers keep only so many of them.

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) wake(target);
        else if (target.paused && document.fullscreenElement !== target) rest(target);
      }
    },
    { rootMargin: "300px 0px" },
  );

  function wake(video) {
    if (!video.hasAttribute("src")) video.src = video.dataset.src;
    video.preload = "metadata";
  }

  function rest(video) {
    if (video.preload === "none") return;
    video.dataset.at = video.currentTime;
    video.preload = "none";
    video.controls = false;
    video.removeAttribute("src");
    video.load();
  }

  function player(caption, address, about) {
    const figure = copyOf("player");
    const video = figure.querySelector("video");
    const link = document.createElement("a");
    link.href = address;
    link.textContent = caption;
    figure.querySelector("figcaption").append(link);
    video.dataset.src = address;
    video.src = address;
    video.setAttribute("aria-label", `${caption} of ${about}`);
    // The browser's own controls would hide half of a small picture, so they come with the playing.
    const button = figure.querySelector("button");
    button.setAttribute("aria-label", `Play the ${caption.toLowerCase()} of ${about}`);
    button.addEventListener("click", () => {
      wake(video);
      video.controls = true; // without them it can't be focused
      video.focus({ preventScroll: true });
      video.play().catch(() => {});
    });
    video.addEventListener("play", () => {
      video.controls = true;
      button.hidden = true;
    });
    video.addEventListener("emptied", () => {
      button.hidden = false;
    });
    video.addEventListener("loadedmetadata", () => {
      if (video.dataset.at > 0) video.currentTime = video.dataset.at;
    });
    video.addEventListener("error", () => {
      figure.querySelector(".screen").hidden = true;
      figure.querySelector(".broken").hidden = false;
      near.unobserve(video);
    });
    near.observe(video);
    return figure;
  }

  function blank(caption, words, kind) {
    const figure = copyOf("blank");
    figure.querySelector("figcaption").textContent = caption;
    const box = figure.querySelector(".blank");
    box.textContent = words;
    box.classList.add(kind);
    return figure;
  }

  const NO_VIDEO = {
    done: "the video is not in this folder",
    failed: "no video",
    doubt: "it may exist, and may be billed",
    running: "not ready yet",
    unsent: "nothing was bought",
  };
  const NO_VIDEO_AS = {
    refused: "refused: nothing was bought",
    "not downloaded": "done, but not downloaded",
    "not followed any more": "it goes on, and nobody follows it",
    "given up in doubt": "it may exist, and may be billed",
  };

  function videosOf(job) {
    const about = (job.prompt || job.key).slice(0, 80);
    const shown = [];
    if (data.sources) {
      const source = job.source
        ? player("Source", job.source, about)
        : blank("Source", "not in this folder", "missing");
      shown.push(source);
    }
    const remix = job.file
      ? player("Remix", job.file, about)
      : blank("Remix", NO_VIDEO_AS[job.status] ?? NO_VIDEO[job.group], job.group);
    shown.push(remix);
    return shown;
  }

  function bothButton(videos) {
    const button = copyOf("both");
    const say = () => {
      const playing = videos.some((video) => !video.paused);
      button.textContent = playing ? "Pause both" : "Play both";
      button.setAttribute("aria-pressed", String(playing));
    };
    button.addEventListener("click", () => {
      if (videos.some((video) => !video.paused)) {
        for (const video of videos) video.pause();
        return;
      }
      const ended = videos.every((video) => video.ended || video.currentTime === 0);
      const at = ended ? 0 : Math.min(...videos.map((video) => video.currentTime));
      for (const video of videos) {
        wake(video);
        video.currentTime = at;
        video.play().catch(() => {});
      }
      videos[0].muted = true;
    });
    for (const video of videos) {
      for (const event of ["play", "pause", "ended", "emptied"]) video.addEventListener(event, say);
      video.addEventListener("error", () => {
        button.hidden = true;
      });
    }
    say();
    return button;
  }

  function fill(element, text) {
    if (text) element.textContent = text;
    else element.remove();
  }

  function restButton(prompt) {
    const button = document.createElement("button");
    const say = () => {
      const short = prompt.classList.contains("long");
      button.textContent = short ? "Show all of it" : "Show less";
      button.setAttribute("aria-expanded", String(!short));
    };
    button.type = "button";
    button.className = "rest";
    button.addEventListener("click", () => {
      prompt.classList.toggle("long");
      say();
    });
    prompt.classList.add("long");
    say();
    return button;
  }

  function card(job, withVideos = true) {
    const item = copyOf("job");
    const part = (selector) => item.querySelector(selector);
    if (withVideos) part(".pair").append(...videosOf(job));
    // What is done and has an error all the same deserves a second look.
    item.classList.add(job.group === "done" && job.error ? "doubt" : job.group);
    part(".status").textContent = job.status;
    fill(part(".took"), job.took);
    if (job.waited) part(".took")?.setAttribute("title", `waited ${job.waited} of that`);
    if (job.at) {
      const time = part("time");
      time.dateTime = job.at;
      time.textContent = clock.format(new Date(job.at));
      time.title = `Accepted ${calendar.format(new Date(job.at))}`;
    } else {
      part("time").remove();
    }
    part(".prompt").textContent = job.prompt || job.key;
    if (part(".prompt").textContent.length > LONG) part(".prompt").after(restButton(part(".prompt")));
    fill(part(".error"), job.error);
    for (const [name, value] of [
      ["Key", job.prompt ? job.key : ""],
      ["Task", job.id],
      ["Source", job.video],
      ["Model", job.model],
    ]) {
      if (!value) continue;
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      row.append(term, detail);
      part(".ids").append(row);
    }
    const videos = [...item.querySelectorAll("video")];
    if (videos.length === 2) part(".line").append(bothButton(videos));
    return item;
  }

  // The list.

  const ending = new IntersectionObserver(
    (entries) => {
      if (entries.at(-1).isIntersecting && !more.hidden) draw(drawn + STEP);
    },
    { rootMargin: "800px 0px" },
  );

  function draw(upTo) {
    const end = Math.min(matching.length, upTo);
    const cards = document.createDocumentFragment();
    for (; drawn < end; drawn++) cards.append(card(matching[drawn]));
    list.append(cards);
    more.hidden = drawn >= matching.length;
    // Asks anew whether the end is near, for it may be so still.
    ending.unobserve(more.parentElement);
    ending.observe(more.parentElement);
  }

  function show() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = data.jobs.filter(
      (job) =>
        (group === "all" || job.group === group) && words.every((word) => job.text.includes(word)),
    );
    for (const video of list.querySelectorAll("video")) {
      near.unobserve(video);
      video.removeAttribute("src");
      video.load();
    }
    list.replaceChildren();
    drawn = 0;
    draw(STEP);
    for (const chip of chips) {
      chip.setAttribute("aria-pressed", String(chip.dataset.group === group));
    }
    byId("nothing").hidden = matching.length > 0;
    const kind = group === "all" ? "" : " of this kind";
    byId("nothing-why").textContent = words.length
      ? `No job${kind} matches “${find.value.trim()}”`
      : NOTHING[group];
    const count = matching.length.toLocaleString("en");
    byId("told").textContent = matching.length === 1 ? "1 job" : `${count} jobs`;
  }

  function choose(name) {
    group = name;
    show();
    history.replaceState(null, "", name === "all" ? "#" : `#${name}`);
  }

  for (const chip of chips) chip.addEventListener("click", () => choose(chip.dataset.group));
  let typing = 0;
  find.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(show, 120);
  });
  byId("tools").addEventListener("submit", (event) => {
    event.preventDefault();
    show();
  });
  byId("reset").addEventListener("click", () => {
    find.value = "";
    choose("all");
    find.focus();
  });
  more.addEventListener("click", () => {
    const next = drawn;
    draw(drawn + STEP);
    list.children[next]?.querySelector("a, video, button")?.focus({ preventScroll: true });
  });
  // On paper no video plays, so that the rest of the list comes without any, and goes again.
  addEventListener("beforeprint", () => {
    list.append(...matching.slice(drawn).map((job) => card(job, false)));
  });
  addEventListener("afterprint", () => {
    while (list.children.length > drawn) list.lastElementChild.remove();
  });

  const wanted = location.hash.slice(1);
  if (chips.some((chip) => chip.dataset.group === wanted)) group = wanted;
  list.classList.toggle("single", !data.sources);
  byId("tools").hidden = false;
  show();
})();
