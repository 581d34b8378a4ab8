'use strict';

/**
 * Load TensorFlow.js, so that scripts which require '@tensorflow/tfjs' find its backend registered.
 *
 * Frameworks from Pipcook's mirrors bring native backends along; what npm installs here is the portable one, since
 * install scripts, which would fetch the native libraries, are not run.
 */
module.exports = {
  initialize() {
    require('@tensorflow/tfjs');
  },
};
