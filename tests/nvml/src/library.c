/* Start, end and words of the library; what it says of the system. */
#include "call.h"

/* -- library ------------------------------------------------------------------------------------------------------ */

static nvmlReturn_t begin_library(Call *call) {
    nvmlReturn_t result = open_machine();
    if (result != NVML_SUCCESS) return result;
    result = enter(call);
    if (result == NVML_SUCCESS) result = leave(call, machine->driver_loaded ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED);
    if (result != NVML_SUCCESS) close_machine();
    return result;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    Call call = {__func__, READS, NONE, NONE, NONE, NONE, NONE, 0, 0, 0, 0};
    return begin_library(&call);
}

EXPORT nvmlReturn_t nvmlInit_v2(void) {
    Call call = {__func__, READS, NONE, NONE, NONE, NONE, NONE, 0, 0, 0, 0};
    return begin_library(&call);
}

EXPORT nvmlReturn_t nvmlShutdown(void) {
    BEGIN(NULL, READS);
    leave(&call, NVML_SUCCESS);
    return close_machine();
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code) {
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions",
        "Already Initialized", "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded",
        "Timeout", "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM",
        "GPU is lost", "GPU requires reset", "GPU access blocked by the operating system", "Driver/library version mismatch",
        "In use by another client", "Insufficient Memory", "No data",
        "The requested vgpu operation is not available on target device, because ECC is enabled",
        "Insufficient Resources", "Frequency Not Supported", "Argument version mismatch", "Deprecated", "Not Ready",
        "GPU Not Found", "Invalid State", "Reset Type Not Supported"};
    int index = (int)code;
    return index >= 0 && index < (int)(sizeof texts / sizeof *texts) ? texts[index] : "Unknown Error";
}

/* -- system ------------------------------------------------------------------------------------------------------- */

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    BEGIN(NULL, READS);
    END(give(machine->driver_version, version, length));
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    BEGIN(NULL, READS);
    END(give(machine->nvml_version, version, length));
}

#define CUDA_VERSION(name)                                                                                         \
    EXPORT nvmlReturn_t name(int *version) {                                                                       \
        BEGIN(NULL, READS);                                                                                        \
        REQUIRE(version, NVML_ERROR_INVALID_ARGUMENT);                                                             \
        *version = machine->cuda_version;                                                                          \
        END(NVML_SUCCESS);                                                                                         \
    }
CUDA_VERSION(nvmlSystemGetCudaDriverVersion)
CUDA_VERSION(nvmlSystemGetCudaDriverVersion_v2)

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    BEGIN(NULL, READS);
    REQUIRE(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = (unsigned)machine->gpu_count;
    END(NVML_SUCCESS);
}
