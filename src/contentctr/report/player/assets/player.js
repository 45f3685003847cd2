"use strict";
// The recording, or where no browser plays it, the clips of its highlights; and its clock.

class Player {
  #video = $("video");
  #data;
  #now = 0;
  #offset = 0;
  #source = "";
  #wanted = null;
  #onTime;
  #frame = 0;

  constructor(data, onTime) {
    [this.#data, this.#onTime] = [data, onTime];
    for (const kind of ["timeupdate", "seeking", "seeked"]) {
      this.#video.addEventListener(kind, () => this.#tick());
    }
    this.#video.addEventListener("loadedmetadata", () => this.#loaded());
    this.#video.addEventListener("error", () => this.#failed());
    for (const kind of ["play", "pause", "ended"]) {
      this.#video.addEventListener(kind, () => this.#state());
    }
    $("file").addEventListener("change", () => this.#open($("file").files[0]));
    const { video } = data;
    if (video === null) {
      this.#say("There is no video here: the curve and the chat can be read all the same.", "", false);
    } else if (!video.playable) {
      this.#cannot();
    } else {
      this.#load(video.href, 0);
    }
  }

  get now() {
    return this.#now;
  }

  get playing() {
    return !this.#video.paused && !this.#video.ended && this.#source !== "";
  }

  get playable() {
    return this.#source !== "";
  }

  /** Go to a time; what is there but the recording cannot be played: its clip. */
  seek(seconds, { play = false } = {}) {
    this.#now = Math.min(Math.max(seconds, 0), this.#data.duration);
    if (this.#source !== this.#data.video?.href && !this.#source.startsWith("blob:")) this.#useClip(this.#now);
    this.#wanted = this.#now;
    if (this.#video.readyState > 0) this.#apply();
    if (play) this.play();
    this.#onTime(this.#now);
  }

  play() {
    if (this.#source === "") return;
    if (this.#wanted === null && this.#video.readyState > 0) this.#tick();
    this.#video.play().catch(() => {}); // refused before the user has touched the page
  }

  pause() {
    this.#video.pause();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  mute() {
    this.#video.muted = !this.#video.muted;
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.#video.requestFullscreen?.().catch(() => {});
  }

  #load(href, offset) {
    [this.#source, this.#offset] = [href, offset];
    $("message").hidden = true;
    this.#video.hidden = false;
    this.#video.src = href;
  }

  #loaded() {
    if (this.#wanted !== null) this.#apply();
  }

  #apply() {
    this.#video.currentTime = Math.max(0, this.#wanted - this.#offset);
    this.#wanted = null;
  }

  #tick() {
    if (this.#wanted !== null || this.#video.readyState === 0) return;
    this.#now = this.#video.currentTime + this.#offset;
    this.#onTime(this.#now);
  }

  #state() {
    const { playing } = this;
    $("play").classList.toggle("playing", playing);
    $("play").setAttribute("aria-label", playing ? "Pause (space)" : "Play (space)");
    cancelAnimationFrame(this.#frame);
    const each = () => {
      this.#tick();
      if (this.playing) this.#frame = requestAnimationFrame(each);
    };
    if (playing) each();
  }

  #useClip(seconds) {
    const clip = this.#data.highlights.find(
      (h) => h.clip && /\.(mp4|m4v|mov|webm)$/i.test(h.clip) && seconds >= h.start - 0.01 && seconds < h.end,
    );
    if (clip !== undefined && this.#source !== clip.clip) this.#load(clip.clip, clip.clipStart);
  }

  #failed() {
    const { video } = this.#data;
    if (this.#source !== video.href) {
      this.#source = "";
      this.#say("This clip cannot be played here.", "It may have been moved, or its codec is not one of this browser's.", true);
      return;
    }
    this.#source = "";
    const gone = this.#video.error?.code === MediaError.MEDIA_ERR_SRC_NOT_SUPPORTED;
    const why = gone ? "It was moved, or" : "Reading it failed, or";
    this.#cannot(`${why} this browser does not play ${video.format}.`);
  }

  #cannot(why = `No browser plays ${this.#data.video.format}.`) {
    const clips = this.#data.highlights.some((h) => h.clip);
    const offer = clips
      ? "Choose a highlight: its clip is played instead. "
      : "Make clips with --clips, or exact ones that any browser plays with --exact. ";
    this.#say(`${this.#data.video.name} cannot be played here.`, `${why} ${offer}`, true);
  }

  #say(text, hint, choose) {
    this.#video.hidden = true;
    $("message").hidden = false;
    setText($("message-text"), text);
    setText($("message-hint"), hint);
    $("choose").hidden = !choose;
  }

  /** The recording from where the user has it now; it stays on this device. */
  #open(file) {
    if (file === undefined) return;
    if (this.#source.startsWith("blob:")) URL.revokeObjectURL(this.#source);
    this.#wanted = this.#now;
    this.#load(URL.createObjectURL(file), 0);
  }
}
