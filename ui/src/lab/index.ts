/** What ipychat adds to JupyterLab and Notebook 7: a plug-in per idea. */
import type { JupyterFrontEndPlugin } from "@jupyterlab/application";
import { answers } from "./answers";
import { errors } from "./errors";
import { proseCells } from "./prose";
import { offers } from "./offers";
import { side } from "./side";

const plugins: JupyterFrontEndPlugin<void>[] = [answers, side, errors, offers, proseCells];

export default plugins;
