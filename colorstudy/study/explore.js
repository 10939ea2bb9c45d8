// The image of `_Image`: it says where it was clicked, from the left and from below, in [0, 1].
export default {
  render({ model, el }) {
    const image = document.createElement("img");
    const show = () => { image.src = model.get("source"); };
    image.className = "colorstudy-explorer";
    Object.assign(image.style, { cursor: "crosshair", maxWidth: "100%" });
    image.onclick = (event) => {
      const box = image.getBoundingClientRect();
      model.set("clicked", [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height]);
      model.save_changes();
    };
    model.on("change:source", show);
    show();
    el.append(image);
  },
};
