// A step of an LSTM between its products: o, i, f = σ, g = tanh;  c' = i g + f c,  h' = o tanh c'.
// One thread per element of (H, n). `state` is o, i, f, g, c, one behind the other; what goes into σ comes halved, for
// σ(a) = tanh(a/2)/2 + 1/2. Rows of h lie `h_row` apart, gates of dgates (i, f, g, o) `gate` and their rows `row`.

extern "C" __global__ void forward(long long count, long long n, long long h_row, real* state, real* c_new,
                                   real* tanh_c, real* h) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    const real half = 0.5;
    real o = tanh(state[k]) * half + half, i = tanh(state[count + k]) * half + half;
    real f = tanh(state[2 * count + k]) * half + half, g = tanh(state[3 * count + k]);
    real c = i * g + f * state[4 * count + k], t = tanh(c);
    state[k] = o, state[count + k] = i, state[2 * count + k] = f, state[3 * count + k] = g;
    c_new[k] = c, tanh_c[k] = t;
    h[k / n * h_row + k % n] = o * t;
}

// do = dh tanh c';  dc += dh o (1 - tanh² c');  di = dc g,  df = dc c,  dg = dc i, each times the slope of its σ or
// tanh;  dc before = dc f, in place.
extern "C" __global__ void backward(long long count, long long n, long long row, long long gate, const real* state,
                                    const real* tanh_c, const real* dh, real* dc, real* dgates) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    real o = state[k], i = state[count + k], f = state[2 * count + k], g = state[3 * count + k];
    real t = tanh_c[k], d_o = dh[k] * t, d_c = dc[k] + (dh[k] - d_o * t) * o;
    real* to = dgates + k / n * row + k % n;
    to[0] = d_c * g * (i - i * i);
    to[gate] = d_c * state[4 * count + k] * (f - f * f);
    to[2 * gate] = d_c * i * (1 - g * g);
    to[3 * gate] = d_o * (o - o * o);
    dc[k] = d_c * f;
}
