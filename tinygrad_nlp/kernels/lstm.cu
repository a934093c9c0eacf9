// A step of an LSTM between its products: i, f, o = σ, g = tanh;  c' = i g + f c,  h' = o tanh c'.
// One thread per element of (batch, H). `state` is i, f, o, g, c, tanh c', one behind the other; what goes into σ comes
// halved, for σ(a) = tanh(a/2)/2 + 1/2. A row of dgates is i, f, g, o.

extern "C" __global__ void forward(long long count, real* state, real* c_new, real* h) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    const real half = 0.5;
    real i = tanh(state[k]) * half + half, f = tanh(state[count + k]) * half + half;
    real o = tanh(state[2 * count + k]) * half + half, g = tanh(state[3 * count + k]);
    real c = i * g + f * state[4 * count + k], t = tanh(c);
    state[k] = i, state[count + k] = f, state[2 * count + k] = o, state[3 * count + k] = g;
    c_new[k] = c, state[5 * count + k] = t;
    h[k] = o * t;
}

// do = dh tanh c';  dc += dh o (1 - tanh² c');  di = dc g,  df = dc c,  dg = dc i, each times the slope of its σ or
// tanh;  dc before = dc f, in place.
extern "C" __global__ void backward(long long count, long long hidden, const real* state, const real* dh, real* dc,
                                    real* dgates) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    real i = state[k], f = state[count + k], o = state[2 * count + k], g = state[3 * count + k];
    real t = state[5 * count + k], d_o = dh[k] * t, d_c = dc[k] + (dh[k] - d_o * t) * o;
    real* to = dgates + k / hidden * 4 * hidden + k % hidden;
    to[0] = d_c * g * (i - i * i);
    to[hidden] = d_c * state[4 * count + k] * (f - f * f);
    to[2 * hidden] = d_c * i * (1 - g * g);
    to[3 * hidden] = d_o * (o - o * o);
    dc[k] = d_c * f;
}
