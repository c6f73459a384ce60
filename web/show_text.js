// Shows the text that a node of this pack reports, if it does, inside the node.
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

app.registerExtension({
  name: "AdaptDiffuse.ShowText",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith(OURS)) return;
    const executed = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      executed?.apply(this, arguments);
      if (output?.text) show(this, output.text);
    };
  },
});
