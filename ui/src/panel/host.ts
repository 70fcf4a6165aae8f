/** What the panel needs of the page that it stands in: an output, or JupyterLab's side. */
import type { Placed } from "../answer/step";
import type { Card, Cards } from "../card/cards";

/** A turn as the kernel tells it, all but its texts. */
export interface Head {
  id: string;
  question: string;
  files: string[];
  state: "running" | "done" | "stopped" | "failed" | "lost";
  model: string;
  at: string;
  seconds: number;
  tokens: [number, number] | null;
  cost: number | null;
  finish: string | null;
  stale: boolean;
  cell: boolean;
  /** What a card calls the place of a question that a panel asked. */
  place: string | null;
  /** What the model did, where it did something. */
  steps?: Placed[];
  notices: string[];
  error: string | null;
}

export interface Info {
  chat: string;
  chats: string[];
  title: string;
  model: string;
  system: string | null;
  options: Record<string, number | string>;
  busy: boolean;
}

/** A model that could be asked; `missing` says what it lacks. They come in the order in which they are shown. */
export interface Offer {
  id: string;
  provider: string;
  name: string;
  rank: "current" | "recent" | "ready" | "lacking" | "emulated";
  missing: string | null;
  state: string;
}

/** Something that could go along, and what it is. */
export interface Named {
  name: string;
  about: string;
}

/** Something of the notebook that goes along with a question. */
export interface Along {
  kind: "variable" | "cell" | "file" | "resource";
  name: string;
  source?: string;
  output?: string;
}

/** A turn that was looked for. */
export interface Found {
  chat: string;
  number: number;
  turn: string;
  at: string;
  excerpt: string;
}

/** What came of a turn's texts since they were told last; `at` is how many characters came before. */
export interface Delta {
  id: string;
  at: number;
  text?: string;
  reasoning?: string;
}

/** The static form of the conversation, which stays in the notebook. */
export interface Transcript {
  panel: string;
  data: Record<string, string>;
}

export interface Sync {
  all?: boolean;
  info?: Info;
  order?: string[];
  turns?: Head[];
  deltas?: Delta[];
}

export type Told =
  | { kind: "ack"; id: number; error?: string }
  | ({ kind: "sync" } & Sync)
  | { kind: "models"; models: Offer[] }
  | { kind: "names"; variables: Named[]; files: string[]; resources: Named[] }
  | { kind: "weight"; of: Along; size: number }
  | { kind: "titles"; titles: Record<string, string> }
  | { kind: "found"; words: string; found: Found[] }
  | { kind: "file"; name: string; text: string }
  | ({ kind: "transcript" } & Transcript)
  | { kind: "card"; card: Card }
  | { kind: "card-gone"; id: string };

/** What is asked of the kernel; it is acknowledged by its number. */
export type Wanted = { kind: string; id: number } & Record<string, unknown>;

export interface Host {
  /** What is known before the kernel has said anything. */
  readonly known: { chat: string; model: string; busy: boolean };
  /** The calls that wait for the user's decision. */
  readonly cards: Cards;
  /** Whether a card belongs into this panel that is of no question in it. */
  takes?(card: Card): boolean;
  /** Sends to the kernel; throws where it is gone. */
  send(wanted: Wanted, buffers: Uint8Array[]): void;
  /** Listens to the kernel, and to its end; returns how to stop that. */
  listen(told: (message: Told) => void, lost: () => void): () => void;
  /** Puts a cell below the one that is worked in; false where there is no notebook to put it in. */
  insertCell(source: string, panel: Element): boolean;
  /** The cells that could go along, the nearest first, where the page sees them. */
  cells?(): Along[];
  /** Gives the focus back to the notebook, where the panel stands outside of it. */
  leave?(): void;
  /** Has the panel begin anew behind a kernel's end; false where that can't be done from here. */
  again(panel: Element): boolean;
  /** Puts the transcript into the outputs that hold an older one. */
  writeTranscript(transcript: Transcript): void;
}
