// A field that finds one of many by typing (the combobox pattern of the ARIA authoring practices).

import { make } from "./dom.js";

const SHOWN = 60;

/** Without accents and case, so that "epicerie" finds "Épicerie". */
const plain = (text) => text.normalize("NFD").replaceAll(/\p{M}/gu, "").toLowerCase();

export class Combobox {
  chosen = null;
  #found = [];
  #active = -1;

  /** `options`: a function giving [{prdtypecode, name}], asked anew at each opening. */
  constructor(id, options, onChoose) {
    this.options = options;
    this.onChoose = onChoose;
    this.list = make("ul", { id: `${id}-list`, role: "listbox", class: "options", hidden: true, "aria-label": "Categories" });
    this.input = make("input", {
      id,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      spellcheck: false,
      placeholder: "Search by name or code",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
    });
    this.element = make("div", { class: "combobox" }, this.input, this.list);
    this.input.addEventListener("input", () => {
      this.#choose(null);
      this.#open();
    });
    this.input.addEventListener("click", () => this.#open());
    this.input.addEventListener("blur", () => this.#close());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("pointerdown", (event) => event.preventDefault()); // the field keeps the focus
    this.list.addEventListener("click", (event) => {
      const place = [...this.list.children].indexOf(event.target.closest("li"));
      if (place >= 0) this.#take(place);
    });
  }

  #open() {
    const words = this.chosen ? [] : plain(this.input.value).split(/\s+/).filter(Boolean);
    const fits = ({ prdtypecode, name }) => {
      const text = `${plain(name)} ${plain(String(prdtypecode))}`;
      return words.every((word) => text.includes(word));
    };
    this.#found = this.options().filter(fits).slice(0, SHOWN);
    const items = this.#found.map(({ prdtypecode, name }, place) => {
      const code = make("small", {}, String(prdtypecode));
      return make("li", { role: "option", id: `${this.list.id}-${place}` }, make("span", { lang: "fr" }, name), " ", code);
    });
    this.list.replaceChildren(...(items.length ? items : [make("li", { class: "none" }, "No such category")]));
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.#point(this.#found.length && words.length ? 0 : -1);
  }

  #close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  #point(place) {
    this.#active = place;
    [...this.list.children].forEach((item, each) => item.setAttribute("aria-selected", String(each === place)));
    if (place < 0) return this.input.removeAttribute("aria-activedescendant");
    this.list.children[place].scrollIntoView({ block: "nearest" });
    return this.input.setAttribute("aria-activedescendant", this.list.children[place].id);
  }

  #key(event) {
    const open = !this.list.hidden;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (!open) this.#open();
      const count = this.#found.length;
      if (count) this.#point((this.#active + step + count + (this.#active < 0 && step < 0 ? 1 : 0)) % count);
    } else if (event.key === "Enter" && open && this.#active >= 0) {
      event.preventDefault();
      this.#take(this.#active);
    } else if (event.key === "Escape" && open) {
      event.stopPropagation(); // closes this, clears nothing
      this.#close();
    }
  }

  #take(place) {
    if (!this.#found[place]) return;
    const { prdtypecode, name } = this.#found[place];
    this.input.value = `${name} (${prdtypecode})`;
    this.#choose(this.#found[place]);
    this.#close();
  }

  #choose(option) {
    this.chosen = option;
    this.onChoose(option);
  }
}
