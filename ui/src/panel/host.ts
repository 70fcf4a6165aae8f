/** What the panel needs of the page that it stands in: an output, or JupyterLab's side. */

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
  notices: string[];
  error: string | null;
}

export interface Info {
  chat: string;
  chats: string[];
  model: string;
  system: string | null;
  options: Record<string, number>;
  busy: boolean;
}

/** A model that could be asked; `missing` says what it lacks. */
export interface Offer {
  id: string;
  provider: string;
  name: string;
  missing: string;
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
  | ({ kind: "transcript" } & Transcript);

/** What is asked of the kernel; it is acknowledged by its number. */
export type Wanted = { kind: string; id: number } & Record<string, unknown>;

export interface Host {
  /** What is known before the kernel has said anything. */
  readonly known: { chat: string; model: string; busy: boolean };
  /** Sends to the kernel; throws where it is gone. */
  send(wanted: Wanted, buffers: Uint8Array[]): void;
  /** Listens to the kernel, and to its end; returns how to stop that. */
  listen(told: (message: Told) => void, lost: () => void): () => void;
  /** Puts a cell below the one that is worked in; false where there is no notebook to put it in. */
  insertCell(source: string, panel: Element): boolean;
  /** Puts the transcript into the outputs that hold an older one. */
  writeTranscript(transcript: Transcript): void;
}
