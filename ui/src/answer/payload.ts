/** An answer as the kernel tells it: version 1 of `application/vnd.ipychat.answer+json`. */

export const MIME = "application/vnd.ipychat.answer+json";

export type State = "waiting" | "streaming" | "done" | "stopped" | "failed" | "cut off";
export const STATES: State[] = ["waiting", "streaming", "done", "stopped", "failed", "cut off"];

/** Text in Markdown. While it grows, `at` says how much of it stands in front of what is told here. */
export interface TextPart {
  type: "text";
  text: string;
  at?: number;
}

/** What the model thought; `seconds` is how long. */
export interface ReasoningPart {
  type: "reasoning";
  text: string;
  at?: number;
  seconds?: number;
}

/** What ipychat says itself: who answers, how it ended. */
export interface NoticePart {
  type: "notice";
  text: string;
  level?: "info" | "warning";
}

/** A picture that the model made: `address` holds it. */
export interface ImagePart {
  type: "image";
  text: string;
  address: unknown;
}

/** What the answer cites. */
export interface SourcePart {
  type: "source";
  text: string;
  address: unknown;
  number: unknown;
}

/** What the model did; `text` is what came of it. While it grows, `at` is the text before it, `number` which it is. */
export interface StepPart {
  type: "step";
  text: string;
  tool?: unknown;
  code?: unknown;
  arguments?: unknown;
  pictures?: unknown;
  state?: unknown;
  said?: unknown;
  seconds?: unknown;
  at?: number;
  number?: number;
}

export type Part = { type: string } & Record<string, unknown>;

export interface Footer {
  model?: string;
  seconds?: number;
  tokens?: [number, number];
  cost?: number;
  ending?: string;
  /** While it grows: how long already, how to stop it. */
  status?: string[];
}

export interface Answer {
  version: 1;
  state: State;
  model?: string;
  parts: Part[];
  footer?: Footer;
  /** Of the outputs in which one answer grows; not in one that has ended. */
  live?: string;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A payload of a form that is known; null for any other, which whoever wrote it shows otherwise. */
export function parse(payload: unknown): Answer | null {
  if (!isRecord(payload) || payload.version !== 1 || !Array.isArray(payload.parts)) return null;
  if (!STATES.includes(payload.state as State)) return null;
  const parts = payload.parts as unknown[];
  if (!parts.every((part) => isRecord(part) && typeof part.type === "string")) return null;
  const { model, live, footer } = payload;
  return {
    version: 1,
    state: payload.state as State,
    parts: parts as Part[],
    ...(typeof model === "string" && { model }),
    ...(typeof live === "string" && { live }),
    ...(isRecord(footer) && { footer: parseFooter(footer) }),
  };
}

function parseFooter({ model, seconds, tokens, cost, ending, status }: Record<string, unknown>): Footer {
  const [input, output] = Array.isArray(tokens) ? (tokens as unknown[]) : [];
  return {
    ...(typeof model === "string" && { model }),
    ...(typeof seconds === "number" && { seconds }),
    ...(typeof input === "number" && typeof output === "number" && { tokens: [input, output] }),
    ...(typeof cost === "number" && { cost }),
    ...(typeof ending === "string" && { ending }),
    ...(Array.isArray(status) && { status: status.map(String) }),
  };
}
