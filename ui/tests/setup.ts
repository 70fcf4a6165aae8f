/** What jsdom lacks, which lays nothing out. */
class Sizes implements ResizeObserver {
  observe() {
    return undefined;
  }
  unobserve() {
    return undefined;
  }
  disconnect() {
    return undefined;
  }
}
globalThis.ResizeObserver = Sizes;
Element.prototype.scrollIntoView = () => undefined;
