import { kernelContract } from "./contract.ts";
import { newJsKernel } from "./kernels.ts";

kernelContract("js kernel", newJsKernel);
