// -log softmax(x)[t] of each row and its gradient, (softmax(x) - onehot(t)) / counted, between the reductions, which are
// CuPy's. One thread per element of (rows, width), so that neighbours read neighbours.

// y = exp(x - max of the row)
extern "C" __global__ void exponentials(long long count, long long width, const real* x, const real* max, real* y) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k < count) y[k] = exp(x[k] - max[k / width]);
}

// In place: y becomes the gradient. Rows of the target `ignored` get 0; `losses` comes as zeros. Targets are classes:
// what is not was refused before (nn/_checks.py).
extern "C" __global__ void gradient(long long count, long long width, long long counted, long long ignored,
                                    const long long* targets, const real* x, const real* max, const real* total,
                                    real* y, real* losses) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    long long row = k / width, t = targets[row];
    y[k] = t == ignored ? 0 : y[k] / (total[row] * counted);
    if (t == ignored || t != k % width) return;
    y[k] -= real(1) / counted;
    losses[row] = log(total[row]) - (x[k] - max[row]);
}
