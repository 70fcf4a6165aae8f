/** Where HTML text becomes nodes: the last gate, through which no element or address goes that is not named here. */
import DOMPurify, { type Config } from "dompurify";

/** The only address that a picture may have: it is here already, and no page of its own. */
export const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[\w+/=]+$/i;
/** Where a link may lead. */
export const ADDRESS = /^(?:https?:\/\/|mailto:)/i;
/** Lengths and colours; nothing that loads. */
const STYLE = /^[\w\s:;.,#%+-]*$/;

const purifier = DOMPurify(window);
purifier.addHook("uponSanitizeAttribute", (node, event) => {
  const { attrName: name, attrValue: value } = event;
  if (name === "src") event.keepAttr = node.tagName === "IMG" && PICTURE.test(value);
  else if (name === "href") event.keepAttr = node.tagName === "A" && ADDRESS.test(value);
  else if (name === "style") event.keepAttr = STYLE.test(value);
});
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "IMG" && !node.hasAttribute("src")) node.remove();
  if (node.tagName !== "A") return;
  node.removeAttribute("title");
  const address = node.getAttribute("href");
  if (address === null) return;
  node.setAttribute("title", address); // where it goes, whatever its words say
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const NOTHING: Config = { ALLOW_ARIA_ATTR: false, ALLOW_DATA_ATTR: false };
const TAGS =
  "a blockquote br code em h1 h2 h3 h4 h5 h6 hr img li ol p pre s strong sup table tbody td th thead tr ul".split(
    " ",
  );
const PROSE: Config = {
  ...NOTHING,
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["align", "alt", "href", "src", "start", "title"],
  ADD_URI_SAFE_ATTR: ["align", "start"], // else they would have to look like addresses
};
const COLOURS: Config = { ...NOTHING, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] };
const FORMULA: Config = {
  ...NOTHING,
  ALLOWED_TAGS:
    "annotation line math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover path semantics span svg".split(
      " ",
    ),
  ALLOWED_ATTR:
    "accent accentunder aria-hidden class columnalign columnlines columnspacing d display displaystyle encoding fence form height linethickness lspace mathcolor mathsize mathvariant maxsize minsize movablelimits notation preserveAspectRatio rowlines rowspacing rspace scriptlevel separator stretchy stroke-width style symmetric viewBox voffset width x1 x2 y1 y2 xmlns".split(
      " ",
    ),
};

const FOREIGN: Config = {
  ...PROSE,
  ALLOWED_TAGS: [...TAGS, "details", "div", "small", "span", "summary"],
};

const gate =
  (config: Config) =>
  (html: string): DocumentFragment =>
    purifier.sanitize(html, { ...config, RETURN_DOM_FRAGMENT: true });

/** Rendered Markdown. */
export const prose = gate(PROSE);
/** Coloured code. */
export const colours = gate(COLOURS);
/** Typeset mathematics. */
export const formula = gate(FORMULA);
/** HTML of an answer that was written for who does not know its form. */
export const foreign = gate(FOREIGN);
