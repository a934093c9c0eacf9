// A step of a GRU (r after the product) between its products: r, z = σ, n = tanh(n_x + r n_h), h' = n + z (h - n).
// One thread per element of (batch, H). `state` is n, r, z, n_h, one behind the other; what goes into σ comes halved.
// A row of dgates is n, r, z, n_h.

extern "C" __global__ void forward(long long count, real* state, const real* n_x, const real* h, real* h_new) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    const real half = 0.5;
    real r = tanh(state[count + k]) * half + half, z = tanh(state[2 * count + k]) * half + half;
    real n = tanh(n_x[k] + r * state[3 * count + k]);
    state[k] = n, state[count + k] = r, state[2 * count + k] = z;
    h_new[k] = n + (h[k] - n) * z;
}

// dz = dh (h - n),  dn = dh (1 - z),  dr = dn n_h,  dn_h = dn r, each through its slope;  dh becomes dh z.
extern "C" __global__ void backward(long long count, long long hidden, const real* state, const real* h, real* dh,
                                    real* dgates) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    real n = state[k], r = state[count + k], z = state[2 * count + k], past = dh[k] * z;
    real dn = (dh[k] - past) * (1 - n * n);
    real* to = dgates + k / hidden * 4 * hidden + k % hidden;
    to[0] = dn;
    to[hidden] = dn * state[3 * count + k] * (r - r * r);
    to[2 * hidden] = (h[k] - n) * dh[k] * (z - z * z);
    to[3 * hidden] = dn * r;
    dh[k] = past;
}
