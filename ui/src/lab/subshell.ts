/** A subshell for a kernel that is busy while the page is loaded: it says what it is only when it is idle again. */
import { type Kernel, KernelMessage } from "@jupyterlab/services";

const KNOWN = "ipychat:kernels";
const MOST = 40; // kernels that are remembered
const PATIENCE = 400; // milliseconds in which a kernel that is idle says what it is

const known = () => (localStorage.getItem(KNOWN) ?? "").split(" ").filter((id) => id);

/** Remembers, for every tab of this browser, whether a kernel knows ipychat and has subshells. */
export function remember(id: string, is: boolean) {
  const others = known().filter((one) => one !== id);
  localStorage.setItem(KNOWN, [...others, ...(is ? [id] : [])].slice(-MOST).join(" "));
}

/** Whether a kernel that was known before does not say now what it is. */
export async function isBusy(kernel: Kernel.IKernelConnection): Promise<boolean> {
  if (!known().includes(kernel.id)) return false;
  const late = new Promise<true>((resolve) => setTimeout(() => resolve(true), PATIENCE));
  return Promise.race([late, kernel.info.then(() => false)]);
}

/** Makes a subshell without asking what the kernel is; returns its id, if it gives one. */
export async function make(kernel: Kernel.IKernelConnection): Promise<string | undefined> {
  const wanted = KernelMessage.createMessage<KernelMessage.ICreateSubshellRequestMsg>({
    msgType: "create_subshell_request",
    channel: "control",
    username: kernel.username,
    session: kernel.clientId,
    content: {},
  });
  const reply = (await kernel.sendControlMessage(wanted, true).done) as unknown;
  return (reply as KernelMessage.ICreateSubshellReplyMsg).content.subshell_id;
}
