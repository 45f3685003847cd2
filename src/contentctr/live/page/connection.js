// Keeps the rooms in step with the service, through lost connections and restarts.

import { ApiError, LostError, events, getJson, getRooms } from "./api.js";

const FIRST_WAIT_S = 1;
const LONGEST_WAIT_S = 15;

/**
 * States, told to `onState`:
 *   connecting: never been connected; live: in step;
 *   lost: {since, until, reason} in milliseconds, tries again at `until`; key: a key is needed.
 */
export class Connection {
  #rooms;
  #onState;
  #onNews;
  #cursor = null;
  #lostAt = null;
  #tries = 0;
  #wake = () => {};
  #abort = new AbortController();

  constructor(rooms, { onState, onNews }) {
    this.#rooms = rooms;
    this.#onState = onState;
    this.#onNews = onNews;
  }

  /** Stop waiting: try now. */
  retry() {
    this.#wake();
  }

  async run() {
    this.#onState({ name: "connecting" });
    for (;;) {
      let error = null;
      try {
        await this.#follow();
      } catch (caught) {
        error = caught;
        if (!(caught instanceof ApiError || caught instanceof LostError)) console.error(caught);
      }
      this.#abort.abort();
      await this.#wait(error);
    }
  }

  async #follow() {
    this.#abort = new AbortController();
    this.#rooms.setInfo(await getJson("/v1/info"));
    for await (const event of events(this.#cursor, this.#abort.signal)) {
      if (event.kind === "open") {
        // Asked for after the stream is open, so that nothing falls between the two.
        if (this.#cursor === null) await this.#load();
        this.#lostAt = null;
        this.#tries = 0;
        this.#onState({ name: "live" });
      } else if (event.kind === "reset") {
        this.#rooms.setInfo(await getJson("/v1/info")); // another model may serve
        await this.#load();
      }
      else if (event.kind === "score") this.#rooms.score(event.data);
      else if (event.kind === "end") this.#rooms.end(event.data.room_id);
      // Only once it is dealt with: a load that fails is asked for again.
      if (event.id !== null) this.#cursor = event.id;
      this.#onNews();
    }
  }

  async #load() {
    const { now, rooms } = await getRooms();
    this.#rooms.replace(rooms, now);
  }

  async #wait(error) {
    if (error instanceof ApiError && error.status === 401) {
      this.#onState({ name: "key" });
      await new Promise((resolve) => (this.#wake = resolve));
      return;
    }
    this.#lostAt ??= Date.now();
    const backoff = Math.min(FIRST_WAIT_S * 2 ** this.#tries, LONGEST_WAIT_S);
    this.#tries += 1;
    // Spread, so that not all pages come back at the same moment.
    const seconds = Math.max(backoff * (0.75 + Math.random() / 2), error?.retryAfter ?? 0);
    const until = Date.now() + 1000 * seconds;
    const reason = error instanceof ApiError ? error.message : null;
    this.#onState({ name: "lost", since: this.#lostAt, until, reason });
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, 1000 * seconds);
    });
    this.#onState({ name: "lost", since: this.#lostAt, until: null, reason });
  }
}
