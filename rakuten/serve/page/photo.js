// The photo: chosen, dropped anywhere, pasted, or taken; looked at before it is sent.
// It goes out as it is: scaled down here, it would not get the answer that the same file gets elsewhere.

import { byId, bytes, megapixels } from "./dom.js";
import { sayBeside } from "./problem.js";

const MAGIC = [[0xff, 0xd8, 0xff], [0x89, 0x50, 0x4e, 0x47], [0x52, 0x49, 0x46, 0x46]]; // JPEG, PNG, RIFF of WebP

/** A size that is over a limit, so that it does not read like the limit itself. */
const moreThan = (size, limit) => (bytes(size) === bytes(limit) ? `${size.toLocaleString("en")} bytes` : bytes(size));

/** `limits`: image_bytes and image_pixels of the service. */
export class PhotoField {
  file = null;
  #url = null;

  constructor(limits) {
    this.limits = limits;
    this.input = byId("photo-file");
    for (const input of [this.input, byId("photo-camera")]) {
      input.addEventListener("change", () => input.files.length && this.take(input.files[0]));
    }
    byId("photo-remove").addEventListener("click", () => {
      this.clear();
      this.input.focus();
    });
    if (limits.image_bytes) byId("photo-hint").textContent += `, up to ${bytes(limits.image_bytes)}`;
    this.#listenForDrops();
    document.addEventListener("paste", (event) => this.#paste(event));
  }

  /** Takes a photo, or says why not. */
  async take(file) {
    this.clear();
    const refusal = await this.#refusal(file);
    if (refusal) return this.say(refusal);
    this.file = file;
    return this.#show(file);
  }

  clear() {
    this.file = null;
    this.say("");
    for (const input of [this.input, byId("photo-camera")]) input.value = "";
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
    byId("photo").classList.remove("full");
    document.querySelector(".chosen").hidden = true;
    byId("photo-preview").removeAttribute("src");
  }

  say(text) {
    sayBeside("photo", text);
  }

  async #refusal(file) {
    const limit = this.limits.image_bytes;
    if (limit && file.size > limit) {
      return `This photo has ${moreThan(file.size, limit)}; the service takes up to ${bytes(limit)}. Save a smaller one.`;
    }
    const head = new Uint8Array(await file.slice(0, 4).arrayBuffer());
    const known = MAGIC.some((magic) => magic.every((byte, place) => head[place] === byte));
    return known ? null : `“${file.name}” is no JPEG, PNG or WebP.`;
  }

  #show(file) {
    this.#url = URL.createObjectURL(file);
    byId("photo-name").textContent = file.name;
    byId("photo-facts").textContent = bytes(file.size);
    byId("photo").classList.add("full");
    document.querySelector(".chosen").hidden = false;
    const preview = byId("photo-preview");
    preview.hidden = false;
    preview.onerror = () => (preview.hidden = true); // the service will say what is wrong with it
    preview.onload = () => {
      const { naturalWidth: width, naturalHeight: height } = preview;
      byId("photo-facts").textContent = `${width} × ${height}, ${bytes(file.size)}`;
      const limit = this.limits.image_pixels;
      if (limit && width * height > limit) {
        this.clear();
        this.say(`This photo has ${megapixels(width * height)}; the service takes up to ${megapixels(limit)}.`);
      }
    };
    preview.src = this.#url;
  }

  #listenForDrops() {
    const veil = byId("veil");
    let depth = 0; // dragenter and dragleave come for each element on the way
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => {
      if (!holdsFiles(event)) return;
      depth += 1;
      veil.hidden = false;
    });
    addEventListener("dragleave", () => {
      depth = Math.max(0, depth - 1);
      veil.hidden = depth === 0;
    });
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      depth = 0;
      veil.hidden = true;
      if (event.target.matches?.("input[type=text], textarea") && !holdsFiles(event)) return; // text into a field
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (file) this.take(file);
      else this.say("That is a link, not a file: save the picture first, then drop it here.");
    });
  }

  #paste(event) {
    const [file] = event.clipboardData?.files ?? [];
    if (!file) return; // text, for the field that has the focus
    event.preventDefault();
    this.take(file);
  }
}
