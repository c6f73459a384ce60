// Shows in a node of this pack what it reports: its text, if there is one, and its picture in place of the sampler's.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const OURS = "AdaptDiffuse";
const NAME = "report";

function show(node, lines) {
  const text = lines.join("\n");
  let widget = node.widgets?.find((other) => other.name === NAME);
  if (!widget) {
    widget = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app).widget;
    // not an input: saved workflows keep the positions of the real widgets
    widget.serialize = false;
    widget.options.serialize = false;
    if (widget.inputEl) widget.inputEl.readOnly = true;
  }
  widget.value = text;
  node.setDirtyCanvas(true, true);
}

// The page shows the last preview of a sampler for as long as there is one, and has no public way to drop it: classic
// nodes read app.nodePreviewImages, Nodes 2.0 a store that only the page's own stores lead to.
function dropPreview(node) {
  const key = app.extensionManager?.workflow?.nodeToNodeLocatorId?.(node) ?? String(node.id);
  const outputs = app.extensionManager?._p?._s?.get("nodeOutput");
  outputs?.revokePreviewsByLocatorId?.(key);
  delete app.nodePreviewImages?.[key];
}

app.registerExtension({
  name: "AdaptDiffuse.ShowText",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith(OURS)) return;
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output?.images) dropPreview(this);
      if (output?.text) show(this, output.text);
    };
  },
});
