// Where the reader is: at the newest message, which stays in sight, or further up, which then never moves.

const NEAR_BOTTOM = 48;

export class Reader {
  following = true;
  #scroll;
  #list;
  #button;
  #t;
  #lastTop = 0;

  constructor(scroll, list, button, t) {
    [this.#scroll, this.#list, this.#button, this.#t] = [scroll, list, button, t];
    scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const keepBottom = new ResizeObserver(() => this.following && this.#toBottom());
    keepBottom.observe(scroll);
    keepBottom.observe(list);
    button.addEventListener("click", () => {
      this.follow();
      scroll.focus({ preventScroll: true }); // the button goes away
    });
  }

  follow() {
    this.following = true;
    this.#toBottom();
    this.#scrolled();
  }

  /** {id, offset} of the first message in sight, or null at the bottom: for the next load. */
  get place() {
    if (this.following) return null;
    const top = this.#top;
    const item = [...this.#list.children].find((each) => each.dataset.id && each.getBoundingClientRect().bottom > top);
    return item ? { id: item.dataset.id, offset: item.getBoundingClientRect().top - top } : null;
  }

  /** Go where the reader was; false if that message is not here. */
  restore({ id, offset }) {
    const item = [...this.#list.children].find((each) => each.dataset.id === id);
    if (!item) return false;
    this.following = false;
    this.#scroll.scrollTop += item.getBoundingClientRect().top - this.#top - offset;
    this.#scrolled();
    return true;
  }

  /** Change what is shown without moving what is being read. */
  keepingPlace(change) {
    const place = this.place;
    change();
    if (this.following) this.#toBottom();
    else if (place) this.restore(place);
  }

  /** Something came that may be out of sight. */
  unread() {
    if (this.following) return;
    this.#button.classList.add("unread");
    this.#button.textContent = this.#t.new_messages;
  }

  get #top() {
    return this.#scroll.getBoundingClientRect().top;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    if (scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM) this.following = true;
    else if (scrollTop < this.#lastTop - 1) this.following = false;
    this.#lastTop = scrollTop;
    this.#button.hidden = this.following;
    if (!this.following) return;
    this.#button.classList.remove("unread");
    this.#button.textContent = this.#t.newest;
  }

  #toBottom() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#lastTop = this.#scroll.scrollTop;
  }
}
