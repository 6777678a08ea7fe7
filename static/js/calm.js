// When rows may change places: at once for the user, else at most every few seconds, and never under the hand or the eye.
const EVERY_MS = 5_000;
const READING_MS = 4_000; // so long after a scroll somebody is still reading

export class Calm {
  #scrolled = -Infinity;

  /** stale() tells whether the order would be another one, arrange() makes it; `button` offers that while rows are held. */
  constructor({ table, button, stale, arrange }) {
    Object.assign(this, { table, button, stale, arrange });
    addEventListener("scroll", () => (this.#scrolled = performance.now()), { passive: true });
    button.addEventListener("click", () => {
      this.offer(false);
      arrange();
    });
    setInterval(() => this.look(), EVERY_MS);
  }

  get held() {
    if (performance.now() - this.#scrolled < READING_MS) return true;
    const hovering = matchMedia("(hover: hover)").matches && this.table.querySelector("tbody:hover") !== null;
    return hovering || document.activeElement?.closest?.("tbody") != null;
  }

  look() {
    if (document.hidden || this.table.hidden) return;
    const stale = this.stale();
    if (stale && !this.held) this.arrange();
    this.offer(stale && this.held);
  }

  offer(on) {
    this.button.dataset.offered = String(on); // it keeps its place: nothing moves when it comes
    this.button.disabled = !on;
  }
}
