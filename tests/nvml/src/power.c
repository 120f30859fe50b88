/* Power, energy, temperature and clocks of a whole GPU; MIG devices have none of their own.
 *
 * The power follows from the GPU's index, so that GPUs can be told apart, and the energy counter runs with it. */
#include "call.h"

#include <time.h>

static unsigned long long power_mw(const Object *object) {
    return 100000u + 25000u * (unsigned long long)object->gpu_index;
}

static unsigned long long clock_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long long)now.tv_sec * 1000u + (unsigned long long)now.tv_nsec / 1000000u;
}

/* The GPU of a handle; NOT_SUPPORTED for a MIG device. */
static nvmlReturn_t whole_gpu(Call *call, nvmlDevice_t device, Object *object) {
    nvmlReturn_t result = resolve(call, device, kind_of(device) == MIG_HANDLE ? MIG_HANDLE : DEVICE_HANDLE, object);
    return result == NVML_SUCCESS && object->ci ? NVML_ERROR_NOT_SUPPORTED : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts) {
    BEGIN(device, READS);
    Object object;
    CHECK(whole_gpu(&call, device, &object));
    REQUIRE(milliwatts, NVML_ERROR_INVALID_ARGUMENT);
    *milliwatts = (unsigned)power_mw(&object);
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    BEGIN(device, READS);
    Object object;
    CHECK(whole_gpu(&call, device, &object));
    REQUIRE(millijoules, NVML_ERROR_INVALID_ARGUMENT);
    *millijoules = clock_ms() * power_mw(&object) / 1000u;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *celsius) {
    BEGIN(device, READS);
    Object object;
    CHECK(whole_gpu(&call, device, &object));
    REQUIRE(celsius && sensor == 0, NVML_ERROR_INVALID_ARGUMENT);
    *celsius = 40u + (unsigned)object.gpu_index;
    END(NVML_SUCCESS);
}

EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned int type, unsigned int *megahertz) {
    BEGIN(device, READS);
    Object object;
    CHECK(whole_gpu(&call, device, &object));
    REQUIRE(megahertz && type <= 3, NVML_ERROR_INVALID_ARGUMENT);
    *megahertz = type == 2 ? 1593 : 1410; /* memory; graphics, SM and video */
    END(NVML_SUCCESS);
}
