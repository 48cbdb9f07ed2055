// Forecasts two series at once, a thread for each: c++ -O2 -pthread stream.cpp libforecast.so -o stream && LD_LIBRARY_PATH=. ./stream
//
// A step takes a number and the state, and gives the number that is expected next. Nothing is computed twice, and a series
// may go on for ever.
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "forecast.h"

// A series: its state, the memory of its calls, and the results.
struct Series {
    std::vector<double> state = std::vector<double>(forecast_state_size() / sizeof(double));
    std::vector<char> workspace = std::vector<char>(forecast_workspace_size());
    std::vector<float> results;
    int error = 0;

    void run(float speed, int steps) {
        error = forecast_reset_state(state.data());
        for (int i = 0; i < steps && error == 0; i++) {
            float value = std::sin(speed * i), following;
            error = forecast_step(state.data(), &value, state.data(), &following, workspace.data());
            results.push_back(following);
        }
    }
};

int main() {
    Series slow, fast;
    std::thread first([&] { slow.run(0.3f, 100); });
    std::thread second([&] { fast.run(0.5f, 100); });
    first.join();
    second.join();
    for (int i = 0; i < 100; i++) std::printf("%.9g %.9g\n", slow.results[i], fast.results[i]);
    return slow.error | fast.error;
}
