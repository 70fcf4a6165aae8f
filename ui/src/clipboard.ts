/** Text that leaves the page: to the clipboard, or into a cell. */

/** What a terminal or an editor would act on: control characters, and those that turn a text's direction. */
const ACTING = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

export const harmless = (text: string): string => text.replace(ACTING, "");

/** Copies, and tells whether the browser let it. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // no secure context (plain http), or not allowed in this frame
    const area = document.createElement("textarea");
    area.value = text;
    area.style.cssText = "position:fixed;opacity:0";
    const focused = document.activeElement as HTMLElement | null;
    document.body.append(area);
    area.select();
    // eslint-disable-next-line @typescript-eslint/no-deprecated -- there is no other way without a secure context
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}
