/** Where HTML text becomes nodes: the last gate, through which no element or address goes that is not named here. */
import DOMPurify, { type Config } from "dompurify";

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.removeAttribute("title");
  const address = node.getAttribute("href");
  if (address === null) return;
  node.setAttribute("title", address); // where it goes, whatever its words say
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const TAGS =
  "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul";
const PROSE: Config = {
  ALLOWED_TAGS: TAGS.split(" "),
  ALLOWED_ATTR: ["align", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"], // else they would have to look like addresses
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
};
const COLOURS: Config = { ...PROSE, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] };

const gate =
  (config: Config) =>
  (html: string): DocumentFragment =>
    purifier.sanitize(html, { ...config, RETURN_DOM_FRAGMENT: true });

/** Rendered Markdown. */
export const prose = gate(PROSE);
/** Coloured code. */
export const colours = gate(COLOURS);
