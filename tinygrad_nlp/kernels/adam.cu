// Adam: m += (1 - β₁)(g - m),  v ← β₂ v + (1 - β₂) g²,  p -= step · m / (√v + ε). One thread per element.
// `step` and ε hold the corrections for the start at zero (optim/optimizer.py).

extern "C" __global__ void step(long long count, real* p, const real* g, real* m, real* v,
                                real rest1, real beta2, real rest2, real eps, real step) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    m[k] += (g[k] - m[k]) * rest1;
    v[k] = v[k] * beta2 + g[k] * g[k] * rest2;
    p[k] -= m[k] / (sqrt(v[k]) + eps) * step;
}
