// sums[u, d] = Σ values[k, d] over first[u] <= k < first[u + 1], in the order of k: the same bits in every run, which
// atomic additions do not give. One thread per (u, d), so that neighbours read neighbours. `real` may be long long.

extern "C" __global__ void sum(long long count, long long width, long long rows, const long long* first,
                               const real* values, real* sums) {
    long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (at >= count) return;
    long long u = at / width, d = at % width, end = (u + 1) * width < count ? first[u + 1] : rows;
    real total = values[first[u] * width + d];
    for (long long k = first[u] + 1; k < end; ++k) total += values[k * width + d];
    sums[at] = total;
}
