/** The line below an answer: who wrote it, how long it took, what it cost, how it ended. */
import { h } from "../dom";
import type { Footer } from "./payload";

export type Fact = [text: string, title?: string, kind?: string];

const counted = (count: number, unit: string) => `${count.toLocaleString("en")} ${unit}`;

export const time = (seconds: number): string =>
  seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;

const price = (cost: number) => (cost < 0.1 ? `$${cost.toPrecision(2)}` : `$${cost.toFixed(2)}`);

export function facts({ model, seconds, tokens, cost, ending, status = [] }: Footer): Fact[] {
  const all: (Fact | false | undefined)[] = [
    !!model && [model],
    seconds !== undefined && seconds > 0 && [time(seconds)],
    tokens && [`${counted(tokens[0], "in")}, ${counted(tokens[1], "out")}`, "tokens read and written"],
    cost !== undefined && [price(cost), "estimated cost"],
    ...status.map((text): Fact => [text]),
    !!ending && [ending, "how it ended", "ic-warn"],
  ];
  return all.filter((fact) => !!fact);
}

export const drawFacts = (all: Fact[]): HTMLElement[] =>
  all.map(([text, title, kind]) => h("span", { text, title, class: kind }));
