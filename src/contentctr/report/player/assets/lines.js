"use strict";
// Chat and speech by time, following the video. Only some lines are in the document at once.

const PIECE = 60;
const MOST = 4 * PIECE;

class Lines {
  #list = $("lines");
  #all;
  #found;
  #times;
  #first = 0;
  #last = 0;
  #current = -1;
  #follows = true;
  #moved = 0;
  #onSeek;

  constructor({ chat, speech }, onSeek) {
    this.#onSeek = onSeek;
    const said = speech.map(([start, , text]) => ({ t: start, who: "", text, speech: true }));
    this.#all = [...chat.map(([t, who, text]) => ({ t, who, text, speech: false })), ...said];
    this.#all.sort((a, b) => a.t - b.t);
    $("words").hidden = this.#all.length === 0;
    const both = chat.length > 0 && speech.length > 0;
    setText($("words-name"), both ? "Chat and speech" : speech.length > 0 ? "Speech" : "Chat");
    this.#list.setAttribute("aria-label", $("words-name").textContent);
    for (const kind of ["chat", "speech"]) {
      $(`with-${kind}-label`).hidden = !both;
      $(`with-${kind}`).addEventListener("change", () => this.#filter());
    }
    $("find").addEventListener("input", () => this.#filter());
    $("follow").addEventListener("click", () => this.#follow());
    this.#list.addEventListener("scroll", () => this.#scrolled());
    for (const kind of ["wheel", "touchmove", "pointerdown"]) {
      this.#list.addEventListener(kind, () => this.#leave(), { passive: true });
    }
    this.#list.addEventListener("keydown", (event) => {
      if (/^(Arrow(Up|Down)|Page(Up|Down)|Home|End)$/.test(event.key)) this.#leave();
    });
    this.#filter();
  }

  /** Show what was said at a time. */
  at(seconds) {
    this.#moved = seconds;
    const current = lastAtMost(this.#times, seconds);
    if (current === this.#current) return;
    this.#current = current;
    if (this.#follows) this.#bring();
    this.#mark();
  }

  #filter() {
    const words = $("find").value.trim().toLowerCase();
    const [chat, speech] = [$("with-chat").checked, $("with-speech").checked];
    this.#found = this.#all.filter(
      (line) =>
        (line.speech ? speech : chat) &&
        (words === "" || line.text.toLowerCase().includes(words) || line.who.toLowerCase().includes(words)),
    );
    this.#times = this.#found.map((line) => line.t);
    this.#current = lastAtMost(this.#times, this.#moved);
    $("no-lines").hidden = this.#found.length > 0;
    this.#follows = true;
    this.#bring();
    this.#mark();
  }

  #follow() {
    this.#follows = true;
    $("follow").hidden = true;
    this.#bring();
    this.#mark();
  }

  #leave() {
    if (this.#list.scrollHeight <= this.#list.clientHeight) return;
    this.#follows = false;
    $("follow").hidden = false;
  }

  /** Put the current line near the bottom of the list, and what comes next faintly beneath it. */
  #bring() {
    $("follow").hidden = true;
    const first = Math.max(0, this.#current - PIECE);
    const last = Math.min(this.#found.length, Math.max(this.#current, 0) + PIECE);
    if (this.#current < this.#first || this.#current + 20 > this.#last || this.#last > this.#found.length || this.#list.childElementCount !== this.#last - this.#first) {
      this.#show(first, last);
    } else if (this.#current + 20 > this.#last - PIECE / 4 && this.#last < this.#found.length) {
      this.#show(first, last);
    }
    const line = this.#list.children[Math.max(0, this.#current - this.#first)];
    if (line === undefined) return;
    this.#list.scrollTop = line.offsetTop + line.offsetHeight - this.#list.clientHeight * 0.72;
  }

  #show(first, last) {
    [this.#first, this.#last] = [first, last];
    this.#list.replaceChildren(...this.#found.slice(first, last).map((line) => this.#row(line)));
  }

  /** More lines where the user has scrolled to an end of those that are there. */
  #scrolled() {
    if (this.#follows) return;
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    if (scrollTop < 200 && this.#first > 0) {
      const first = Math.max(0, this.#first - PIECE);
      const made = this.#found.slice(first, this.#first).map((line) => this.#row(line));
      this.#list.prepend(...made);
      this.#list.scrollTop = scrollTop + this.#list.scrollHeight - scrollHeight;
      this.#first = first;
      while (this.#last - this.#first > MOST) {
        this.#list.lastElementChild.remove();
        this.#last -= 1;
      }
    } else if (scrollTop + clientHeight > scrollHeight - 200 && this.#last < this.#found.length) {
      const last = Math.min(this.#found.length, this.#last + PIECE);
      this.#list.append(...this.#found.slice(this.#last, last).map((line) => this.#row(line)));
      this.#last = last;
      while (this.#last - this.#first > MOST) {
        const height = this.#list.firstElementChild.offsetHeight;
        this.#list.firstElementChild.remove();
        this.#list.scrollTop -= height;
        this.#first += 1;
      }
    } else return;
    this.#mark();
  }

  #mark() {
    [...this.#list.children].forEach((row, k) => {
      const place = this.#first + k;
      row.classList.toggle("coming", place > this.#current);
      row.classList.toggle("current", place === this.#current);
    });
  }

  #row({ t, who, text, speech }) {
    const row = make("li", speech ? "speech" : "chat");
    const time = make("button", "at", clock(t));
    time.type = "button";
    time.title = "Play from here";
    time.addEventListener("click", () => this.#onSeek(t));
    const words = make("span", "text", text);
    words.dir = "auto";
    row.append(time);
    const body = make("span", "body");
    if (speech) body.append(make("span", "hidden", "speech: "));
    if (who) {
      const name = make("b", "who", who);
      name.dir = "auto";
      body.append(name, " ");
    }
    body.append(words);
    row.append(body);
    return row;
  }
}
