/** What ipychat adds to JupyterLab and Notebook 7: a plug-in per idea. */
import type { JupyterFrontEndPlugin } from "@jupyterlab/application";

const plugins: JupyterFrontEndPlugin<void>[] = [];

export default plugins;
