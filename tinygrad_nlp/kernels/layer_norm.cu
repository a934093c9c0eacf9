// Layer normalisation between its reductions, which are CuPy's. One thread per element of (rows, width).

// x̂ = (x - mean) scale, in place of x - mean;  y = x̂ weight + bias
extern "C" __global__ void forward(long long count, long long width, const real* scale, const real* weight,
                                   const real* bias, real* rows, real* y) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    rows[k] *= scale[k / width];
    y[k] = rows[k] * weight[k % width] + bias[k % width];
}

// dx = scale (dx̂ - mean(dx̂) - x̂ mean(dx̂ x̂)), with dx̂ = dy weight
extern "C" __global__ void backward(long long count, long long width, const real* scale, const real* mean,
                                    const real* stretch, const real* rows, const real* drows, real* dx) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k >= count) return;
    long long row = k / width;
    dx[k] = scale[row] * (drows[k] - mean[row] - rows[k] * stretch[row]);
}
