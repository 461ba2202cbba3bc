// The networks of experiments/playground/train.py, computed with TensorFlow.js.
// Feature maps are [1, height, width, channels] here; PyTorch's are (1, channels, height, width).
"use strict";

window.playgroundModel = (() => {
  // The number whose sixteen bits in half precision are `bits`.
  function half(bits) {
    const sign = bits >> 15 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    return exponent
      ? sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
      : sign * fraction * 2 ** -24;
  }

  // A network's tensors by name, with kernels in the order [height, width, in, out].
  function unpack({ tensors, numbers }) {
    const bytes = Uint8Array.from(atob(numbers), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const result = {};
    let at = 0;
    for (const [name, shape] of tensors) {
      const size = shape.reduce((a, b) => a * b, 1);
      const values = Float32Array.from({ length: size }, (_, i) =>
        half(view.getUint16(2 * (at + i), true)),
      );
      at += size;
      let tensor = tf.tensor(values, shape);
      if (name.startsWith("mean.")) tensor = tf.transpose(tensor, [1, 2, 0]);
      else if (shape.length === 4) tensor = tf.transpose(tensor, [2, 3, 1, 0]);
      else if (shape.length === 2) tensor = tf.transpose(tensor);
      result[name] = tf.keep(tensor); // for the next runs
    }
    return result;
  }

  const conv = (p, name, x) => {
    const y = tf.conv2d(x, p[`${name}.weight`], 1, "same");
    return p[`${name}.bias`] ? tf.add(y, p[`${name}.bias`]) : y;
  };
  const linear = (p, name, x) =>
    tf.add(tf.matMul(x, p[`${name}.weight`]), p[`${name}.bias`]);
  const norm = (p, name, x) =>
    tf.add(
      tf.mul(
        tf.div(
          tf.sub(x, p[`${name}.running_mean`]),
          tf.sqrt(tf.add(p[`${name}.running_var`], 1e-5)),
        ),
        p[`${name}.weight`],
      ),
      p[`${name}.bias`],
    );
  const hardSwish = (x) => tf.mul(x, tf.div(tf.clipByValue(tf.add(x, 3), 0, 6), 6));
  const twoLayers = (p, name, z) => linear(p, `${name}fc2`, tf.relu(linear(p, `${name}fc1`, z)));
  const asGate = (z) => tf.reshape(z, [1, 1, 1, -1]);

  // The gates that each mechanism computes from a feature map x.
  const mechanisms = {
    se(p, x) {
      return { channel: asGate(tf.sigmoid(twoLayers(p, "attention.", tf.mean(x, [1, 2])))) };
    },
    eca(p, x) {
      const z = tf.reshape(tf.mean(x, [1, 2]), [1, -1, 1, 1]);
      const kernel = tf.reshape(p["attention.conv.weight"], [-1, 1, 1, 1]);
      return { channel: asGate(tf.sigmoid(tf.conv2d(z, kernel, 1, "same"))) };
    },
    cbam(p, x) {
      const mlp = (z) => twoLayers(p, "attention.channel.", z);
      const a = tf.add(mlp(tf.mean(x, [1, 2])), mlp(tf.max(x, [1, 2])));
      const channel = asGate(tf.sigmoid(a));
      const scaled = tf.mul(x, channel);
      const planes = tf.concat([tf.max(scaled, 3, true), tf.mean(scaled, 3, true)], 3);
      const b = conv(p, "attention.spatial.conv", planes);
      return { channel, spatial: tf.sigmoid(norm(p, "attention.spatial.bn", b)) };
    },
    bam(p, x) {
      let c = linear(p, "attention.channel.fc1", tf.mean(x, [1, 2]));
      c = tf.relu(norm(p, "attention.channel.bn1", c));
      c = linear(p, "attention.channel.fc2", c);
      let s = x;
      for (const i of [1, 2, 3]) {
        s = conv(p, `attention.spatial.conv${i}`, s);
        s = tf.relu(norm(p, `attention.spatial.bn${i}`, s));
      }
      s = conv(p, "attention.spatial.conv4", s);
      return { joint: tf.add(tf.sigmoid(tf.mul(asGate(c), s)), 1) };
    },
    coordinate(p, x) {
      const rows = tf.mean(x, 2, true); // [1, height, 1, channels]
      const columns = tf.transpose(tf.mean(x, 1, true), [0, 2, 1, 3]);
      const encode = (z) => hardSwish(norm(p, "attention.bn1", conv(p, "attention.conv1", z)));
      const width = tf.sigmoid(conv(p, "attention.conv_w", encode(columns)));
      return {
        height: tf.sigmoid(conv(p, "attention.conv_h", encode(rows))),
        width: tf.transpose(width, [0, 2, 1, 3]),
      };
    },
  };

  const networks = {};
  const parameters = (name) =>
    (networks[name] ??= unpack(window.playgroundData.networks[name]));

  // A tensor as {shape, values} in PyTorch's order, without the batch.
  function plain(tensor) {
    const turned = tf.transpose(tensor, [0, 3, 1, 2]);
    return { shape: turned.shape.slice(1), values: Array.from(turned.dataSync()) };
  }

  function shuffle(x, order) {
    const orders = window.playgroundData.orders;
    if (!(order in orders)) return x;
    const flat = tf.reshape(x, [64, -1]);
    return tf.reshape(tf.gather(flat, tf.tensor1d(orders[order], "int32")), x.shape);
  }

  // What the network `name` makes of 64 pixels from 0 to 16.
  // image: "own", "rows" or "places", the order of the image's pixels.
  // gate: "computed", "held", or "rows" or "places": computed from a shuffled feature map.
  function run(name, pixels, image = "own", gate = "computed") {
    return tf.tidy(() => {
      const p = parameters(name);
      const input = tf.div(tf.tensor(pixels, [1, 8, 8, 1], "float32"), 16);
      let x = tf.relu(conv(p, "conv1", shuffle(input, image)));
      x = tf.relu(conv(p, "conv2", x));
      const means = Array.from(tf.mean(x, [1, 2]).dataSync());
      const gates = mechanisms[name](p, shuffle(x, gate));
      for (const key of Object.keys(gates)) {
        if (gate === "held") gates[key] = tf.expandDims(p[`mean.${key}`], 0);
        x = tf.mul(x, gates[key]);
      }
      x = tf.relu(conv(p, "conv3", tf.avgPool(x, 2, 2, "valid")));
      const logits = Array.from(linear(p, "fc", tf.mean(x, [1, 2])).dataSync());
      const shown = Object.fromEntries(Object.entries(gates).map(([k, g]) => [k, plain(g)]));
      const kernel = name === "eca" && Array.from(p["attention.conv.weight"].dataSync());
      return { logits, gates: shown, means, kernel };
    });
  }

  return { run };
})();
