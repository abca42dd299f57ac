// The viewer of a pair: two images on top of each other in three planes through one point. It takes apart what
// `lumirkit/eval/report/viewer.py` packs, and replaces the still pictures, which stay for browsers without scripts.
"use strict";
(() => {
  const PLANES = [  // the axes that run across and up in the plane orthogonal to `axis`; axes are x, y, z
    { axis: 0, across: 1, up: 2 },
    { axis: 1, across: 0, up: 2 },
    { axis: 2, across: 0, up: 1 },
  ];
  const FIXED_COLOR = "rgb(255 191 0)", WARPED_COLOR = "rgb(26 217 255)", FOLD_COLOR = [255, 0, 255, 255];
  const NEUTRAL = 128, BRAIN = 8, GAP_PX = 12, SMALLEST_PX_PER_MM = 1.1, LARGEST_PX_PER_MM = 2.6;

  // The voxels of one packed volume, x fastest: red, and green and blue as the higher bits of labels.
  async function unpack(uri, [nx, ny, nz], columns, exact) {
    const picture = new Image();
    await new Promise((loaded, failed) => { picture.onload = loaded; picture.onerror = failed; picture.src = uri; });
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const { data, width } = context.getImageData(0, 0, picture.width, picture.height);
    const voxels = exact ? new Uint32Array(nx * ny * nz) : new Uint8Array(nx * ny * nz);
    let voxel = 0;
    for (let k = 0; k < nz; k++) {
      const left = (k % columns) * nx, top = Math.floor(k / columns) * ny;
      for (let j = 0; j < ny; j++) {
        let at = 4 * ((top + j) * width + left);
        for (let i = 0; i < nx; i++, at += 4) {
          voxels[voxel++] = exact ? data[at] | data[at + 1] << 8 | data[at + 2] << 16 : data[at];
        }
      }
    }
    return voxels;
  }

  class Viewer {
    constructor(root) {
      this.root = root;
      this.packed = JSON.parse(root.querySelector("script").textContent);
      this.at = [...this.packed.start];
      this.volumes = new Map();
      this.input = Object.fromEntries([...root.querySelectorAll("[data-control]")].map((e) => [e.dataset.control, e]));
      this.planes = [...root.querySelectorAll("figure")].map((figure, number) => ({
        ...PLANES[number], figure, canvas: figure.querySelector("canvas"), slider: figure.querySelector("input"),
      }));
    }

    async start() {
      const load = (uri, exact) => this.load(uri, exact);
      [this.fixed, this.fixedLabels] = await Promise.all([load(this.packed.fixed), load(this.packed.fixed_labels, true)]);
      await this.choose();
      this.input.borders.parentElement.hidden = !this.fixedLabels;
      this.planes.forEach((plane) => this.listen(plane));
      this.input.other.addEventListener("change", () => this.choose());
      for (const name of ["share", "how", "borders", "jacobian"]) {
        this.input[name].addEventListener("input", () => this.draw());
      }
      this.root.hidden = false;
      new ResizeObserver(() => this.resize()).observe(this.root);
      this.resize();
    }

    // A volume by its data URI, taken apart once; null where the pair has none.
    load(uri, exact = false) {
      if (!uri) return Promise.resolve(null);
      if (!this.volumes.has(uri)) this.volumes.set(uri, unpack(uri, this.packed.size, this.packed.columns, exact));
      return this.volumes.get(uri);
    }

    // Load what is compared with the fixed image: what a row made of the moving image, or that image itself.
    async choose() {
      const row = this.packed.rows[this.input.other.value] ?? { warped: this.packed.moving };
      const [image, labels, jacobian, folds] = await Promise.all([
        this.load(row.warped), this.load(row.warped_labels, true), this.load(row.jacobian), this.load(row.folds, true),
      ]);
      this.other = { image, labels, jacobian, folds };
      this.input.jacobian.disabled = !jacobian;
      this.root.querySelector("[data-name]").textContent = jacobian ? "warped" : "moving";
      this.draw();
    }

    // One scale for the three planes: side by side where there is room, else one below the other.
    resize() {
      const { size, edges_mm } = this.packed;
      const mm = (axis) => size[axis] * edges_mm[axis];
      const width = this.root.clientWidth, across = this.planes.map((plane) => mm(plane.across));
      const total = across.reduce((sum, each) => sum + each, 0);
      let scale = (width - 2 * GAP_PX) / total;
      if (scale < SMALLEST_PX_PER_MM) scale = width / Math.max(...across);
      scale = Math.min(scale, LARGEST_PX_PER_MM * Math.max(1, 500 / total));
      for (const { canvas, figure, across: u, up: v } of this.planes) {
        figure.style.width = canvas.style.width = `${Math.floor(mm(u) * scale)}px`;
        canvas.style.height = `${Math.floor(mm(v) * scale)}px`;
        canvas.width = Math.floor(mm(u) * scale * devicePixelRatio);
        canvas.height = Math.floor(mm(v) * scale * devicePixelRatio);
      }
      this.draw();
    }

    listen(plane) {
      const { canvas, slider, axis, across, up } = plane;
      slider.max = this.packed.size[axis] - 1;
      slider.addEventListener("input", () => this.move(axis, Number(slider.value)));
      const point = (event) => {
        const box = canvas.getBoundingClientRect();
        this.move(across, Math.floor((event.clientX - box.left) / box.width * this.packed.size[across]));
        this.move(up, Math.floor((1 - (event.clientY - box.top) / box.height) * this.packed.size[up]));
      };
      canvas.addEventListener("pointerdown", (event) => { point(event); canvas.setPointerCapture(event.pointerId); });
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
      canvas.addEventListener("wheel", (event) => {  // only after a click, so that the page itself can be scrolled
        if (document.activeElement !== canvas || !event.deltaY) return;
        event.preventDefault();
        this.move(axis, this.at[axis] - Math.sign(event.deltaY));
      }, { passive: false });
      canvas.addEventListener("keydown", (event) => {
        const slices = { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 }[event.key];
        const share = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
        if (!slices && !share) return;
        event.preventDefault();
        if (slices) this.move(axis, this.at[axis] + slices);
        if (share) this.input.share.value = Number(this.input.share.value) + share;
        this.draw();
      });
    }

    move(axis, index) {
      this.at[axis] = Math.max(0, Math.min(this.packed.size[axis] - 1, index));
      this.draw();
    }

    draw() {
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.planes.forEach((plane) => this.drawPlane(plane)));
    }

    // The place of each voxel of a slice in a volume, row by row from the top of the picture.
    places({ axis, across, up }) {
      const { size } = this.packed, step = [1, size[0], size[0] * size[1]];
      const places = new Uint32Array(size[across] * size[up]);
      let place = 0;
      for (let v = size[up] - 1; v >= 0; v--) {
        for (let u = 0; u < size[across]; u++) {
          places[place++] = this.at[axis] * step[axis] + v * step[up] + u * step[across];
        }
      }
      return places;
    }

    drawPlane(plane) {
      const { canvas, slider, across, up, axis } = plane, { size, sides } = this.packed;
      const width = size[across], context = canvas.getContext("2d"), places = this.places(plane);
      const share = this.input.share.value / 100, isWipe = this.input.how.value === "wipe";
      const paint = (color) => context.drawImage(slice(places, width, color), 0, 0, canvas.width, canvas.height);
      const grey = (voxels) => (place) => [voxels[place], voxels[place], voxels[place], 255];
      slider.value = this.at[axis];
      paint(grey(this.fixed));
      context.save();
      if (isWipe) {
        context.beginPath();
        context.rect(0, 0, canvas.width * share, canvas.height);
        context.clip();
      } else {
        context.globalAlpha = share;
      }
      paint(grey(this.other.image));
      context.restore();
      if (this.input.jacobian.checked && this.other.jacobian) {
        const { jacobian, folds } = this.other;
        paint((place) => jacobianColor(this.fixed[place] > BRAIN ? jacobian[place] : NEUTRAL));
        if (folds) paint((place) => folds[place] ? FOLD_COLOR : [0, 0, 0, 0]);
      }
      if (this.input.borders.checked) {
        strokeBorders(context, this.fixedLabels, places, width, FIXED_COLOR);
        strokeBorders(context, this.other.labels, places, width, WARPED_COLOR);
      }
      const centre = (of) => (this.at[of] + 0.5) / size[of];
      line(context, centre(across) * canvas.width, true, "rgb(255 255 255 / .35)");
      line(context, (1 - centre(up)) * canvas.height, false, "rgb(255 255 255 / .35)");
      if (isWipe && share > 0 && share < 1) line(context, canvas.width * share, true, "rgb(255 255 255 / .9)");
      if (sides) letters(context, sides.slice(2 * across, 2 * across + 2), sides.slice(2 * up, 2 * up + 2));
    }
  }

  // A slice in its own pixels; `color` gives red, green, blue and opacity at a place of the volume.
  function slice(places, width, color) {
    const pixels = new ImageData(width, places.length / width);
    places.forEach((place, number) => pixels.data.set(color(place), 4 * number));
    const canvas = new OffscreenCanvas(pixels.width, pixels.height);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  // Red where space expands, blue where it shrinks, clear where it keeps its volume.
  function jacobianColor(value) {
    const strength = (value - NEUTRAL) / (NEUTRAL - 1);
    return [strength > 0 ? 255 : 40, 60, strength > 0 ? 40 : 255, Math.min(230, 330 * Math.abs(strength))];
  }

  // Lines between neighbours of different labels; nothing where there is no label map.
  function strokeBorders(context, labels, places, width, color) {
    if (!labels) return;
    const height = places.length / width;
    const x = context.canvas.width / width, y = context.canvas.height / height;
    context.beginPath();
    for (let row = 0, number = 0; row < height; row++) {
      for (let column = 0; column < width; column++, number++) {
        const label = labels[places[number]];
        if (column + 1 < width && labels[places[number + 1]] !== label) {
          context.moveTo((column + 1) * x, row * y);
          context.lineTo((column + 1) * x, (row + 1) * y);
        }
        if (row + 1 < height && labels[places[number + width]] !== label) {
          context.moveTo(column * x, (row + 1) * y);
          context.lineTo((column + 1) * x, (row + 1) * y);
        }
      }
    }
    context.strokeStyle = color;
    context.lineWidth = devicePixelRatio;
    context.stroke();
  }

  function line(context, at, isUpright, color) {
    context.beginPath();
    context.moveTo(isUpright ? at : 0, isUpright ? 0 : at);
    context.lineTo(isUpright ? at : context.canvas.width, isUpright ? context.canvas.height : at);
    context.strokeStyle = color;
    context.lineWidth = devicePixelRatio;
    context.stroke();
  }

  // The sides at the ends of a plane's axes, such as L and R.
  function letters(context, [left, right], [bottom, top]) {
    const { width, height } = context.canvas, margin = 9 * devicePixelRatio;
    context.font = `600 ${13 * devicePixelRatio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = "white";
    context.strokeStyle = "black";
    context.lineWidth = 3 * devicePixelRatio;
    const places = [[left, margin, height / 2], [right, width - margin, height / 2],
      [bottom, width / 2, height - margin], [top, width / 2, margin]];
    for (const [letter, x, y] of places) {
      context.strokeText(letter, x, y);
      context.fillText(letter, x, y);
    }
  }

  for (const text of document.querySelectorAll(".viewer-only")) text.hidden = false;
  // A viewer starts when its pair is opened, so that a long page opens at once.
  for (const root of document.querySelectorAll(".viewer")) {
    const details = root.closest("details");
    const start = () => {
      if (!details.open) return;
      details.removeEventListener("toggle", start);
      new Viewer(root).start().then(() => { details.querySelector(".stills").open = false; });
    };
    details.addEventListener("toggle", start);
    start();
  }
})();
