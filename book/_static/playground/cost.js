// Parameters of one layer with C channels, as the chapters derive them.
"use strict";

window.playgroundCost = ({ C, r, k, s }) => {
  const hidden = Math.max(1, Math.floor(C / r));
  const bottleneck = 2 * C * hidden + hidden + C; // two linear maps with biases
  const narrow = Math.max(8, Math.floor(C / r));
  return {
    SE: bottleneck,
    ECA: k,
    CBAM: bottleneck + 2 * s * s + 2, // two planes, one kernel, one batch norm
    BAM:
      bottleneck +
      2 * hidden + // the channel branch's batch norm
      (C * hidden + hidden) + // the convolution that narrows
      2 * (9 * hidden * hidden + hidden) +
      3 * 2 * hidden +
      (hidden + 1),
    "Coordinate Attention": C * narrow + narrow + 2 * narrow + 2 * (narrow * C + C),
  };
};
